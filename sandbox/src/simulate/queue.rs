//! A standard queue of SQS.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    iter::Peekable,
};

use super::gateway::Ms;

/// How many messages may be in flight at once: received, and neither deleted nor visible again.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub(super) const MAX_IN_FLIGHT: usize = 120_000;

/// The longest delay of a message.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
pub(super) const MAX_DELAY: Ms = 900_000;

/// The queue's visibility timeout, as template.yaml has it: a message that was received and not deleted is visible again
/// so long after its receipt.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
pub(super) const VISIBILITY: Ms = 180_000;

/// How many messages one receive returns at most, and so how many records a batch of the template has (`BatchSize`).
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>
pub(super) const BATCH: usize = 10;

/// An order's message. Plain data of 24 bytes: a million of them are no matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Message {
    /// When the order is to be closed.
    pub(super) due: Ms,
    /// The number of its merchant.
    pub(super) merchant: u8,
    /// How often it was received.
    pub(super) receives: u16,
}

/// The queue. Messages are sent as `arrivals` says: when each becomes visible, in the order of time.
pub(super) struct Queue<A: Iterator<Item = (Ms, Message)>> {
    arrivals: Peekable<A>,
    /// What can be received, the longest visible first; the second merchant's alone, if the queue is fair.
    visible: VecDeque<Message>,
    quiet: VecDeque<Message>,
    /// What is received and visible again then, unless it is deleted before.
    invisible: BinaryHeap<Reverse<(Ms, Message)>>,
    in_flight: usize,
    max_receives: u16,
    is_fair: bool,
    /// How many messages went to the dead-letter queue.
    pub(super) dead_letters: usize,
    /// How many were in flight at most.
    pub(super) most_in_flight: usize,
}

impl<A: Iterator<Item = (Ms, Message)>> Queue<A> {
    /// A queue whose messages go to the dead-letter queue when they would be received once more than `max_receives` times.
    /// A fair one hands out the messages of the second merchant, which has few in flight, before those of the first:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html>
    pub(super) fn new(arrivals: A, max_receives: u16, is_fair: bool) -> Self {
        Self {
            arrivals: arrivals.peekable(),
            visible: VecDeque::new(),
            quiet: VecDeque::new(),
            invisible: BinaryHeap::new(),
            in_flight: 0,
            max_receives,
            is_fair,
            dead_letters: 0,
            most_in_flight: 0,
        }
    }

    /// When something next becomes visible.
    pub(super) fn next_change(&mut self) -> Option<Ms> {
        let arrival = self.arrivals.peek().map(|&(at, _)| at);
        let back = self.invisible.peek().map(|&Reverse((at, _))| at);
        arrival.into_iter().chain(back).min()
    }

    /// Makes visible what is so by now.
    pub(super) fn advance(&mut self, now: Ms) {
        while let Some(at) = self.next_change().filter(|&at| at <= now) {
            let arrival = self.arrivals.next_if(|&(arrival, _)| arrival == at);
            let message = arrival.or_else(|| {
                self.in_flight -= 1;
                self.invisible.pop().map(|Reverse(back)| back)
            });
            let Some((_, message)) = message else { return };
            let is_quiet = self.is_fair && message.merchant == 1;
            if is_quiet { &mut self.quiet } else { &mut self.visible }.push_back(message);
        }
    }

    /// Whether a receive would return anything.
    pub(super) fn has_messages(&self) -> bool {
        self.in_flight < MAX_IN_FLIGHT && !(self.visible.is_empty() && self.quiet.is_empty())
    }

    /// Receives a batch.
    pub(super) fn receive(&mut self) -> Vec<Message> {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH && self.in_flight < MAX_IN_FLIGHT {
            let Some(mut message) = self.quiet.pop_front().or_else(|| self.visible.pop_front()) else { break };
            if message.receives >= self.max_receives {
                self.dead_letters += 1;
                continue;
            }
            message.receives += 1;
            self.in_flight += 1;
            batch.push(message);
        }
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        batch
    }

    /// Deletes a message that was received.
    pub(super) fn delete(&mut self) {
        self.in_flight -= 1;
    }

    /// Leaves a message in flight that was received, until then.
    pub(super) fn hide(&mut self, message: Message, until: Ms) {
        self.invisible.push(Reverse((until, message)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many messages, one a millisecond, the last of them another merchant's.
    fn messages(count: usize) -> impl Iterator<Item = (Ms, Message)> {
        let merchants = std::iter::repeat_n(0, count - 1).chain([1]);
        (0..).zip(merchants).map(|(at, merchant)| (at, Message { due: at, merchant, receives: 0 }))
    }

    #[test]
    fn a_fair_queue_hands_out_the_quiet_merchants_messages_first() {
        for (is_fair, place) in [(false, 9), (true, 0)] {
            let mut queue = Queue::new(messages(10), 5, is_fair);
            queue.advance(9);
            assert_eq!(queue.receive().iter().position(|it| it.merchant == 1), Some(place));
        }
    }

    #[test]
    fn a_full_queue_hands_out_nothing_until_something_is_deleted_or_comes_back() {
        let mut queue = Queue::new(messages(MAX_IN_FLIGHT + 2), 5, false);
        queue.advance(Ms::MAX);
        while queue.has_messages() {
            queue.receive();
        }
        assert_eq!(queue.most_in_flight, MAX_IN_FLIGHT);
        queue.delete();
        assert_eq!(queue.receive().len(), 1);
        queue.hide(Message { due: 0, merchant: 0, receives: 1 }, 1);
        queue.advance(1);
        assert_eq!(queue.receive().len(), 1);
    }
}
