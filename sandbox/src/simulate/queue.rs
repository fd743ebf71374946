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
    /// What can be received, the longest visible first; by merchant, if the queue is fair.
    visible: [VecDeque<Message>; 2],
    /// What is received and comes back, unless it is deleted before.
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
            visible: <[VecDeque<Message>; 2]>::default(),
            invisible: BinaryHeap::new(),
            in_flight: 0,
            max_receives,
            is_fair,
            dead_letters: 0,
            most_in_flight: 0,
        }
    }

    /// Makes visible what is so by now.
    pub(super) fn advance(&mut self, now: Ms) {
        loop {
            let arrival = self.arrivals.peek().map(|&(at, _)| at).filter(|&at| at <= now);
            let back = self.invisible.peek().map(|&Reverse((at, _))| at).filter(|&at| at <= now);
            let message = match (arrival, back) {
                (None, None) => return,
                (Some(arrival), Some(back)) if back < arrival => self.come_back(),
                (Some(_), _) => self.arrivals.next().map(|(_, message)| message),
                (None, Some(_)) => self.come_back(),
            };
            let Some(message) = message else { return };
            let quiet = usize::from(self.is_fair && message.merchant == 1);
            if let Some(visible) = self.visible.get_mut(quiet) {
                visible.push_back(message);
            }
        }
    }

    fn come_back(&mut self) -> Option<Message> {
        let Reverse((_, message)) = self.invisible.pop()?;
        self.in_flight -= 1;
        Some(message)
    }

    /// When something next becomes visible.
    pub(super) fn next_change(&mut self) -> Option<Ms> {
        let arrival = self.arrivals.peek().map(|&(at, _)| at);
        let back = self.invisible.peek().map(|&Reverse((at, _))| at);
        arrival.into_iter().chain(back).min()
    }

    /// Whether a receive would return anything.
    pub(super) fn has_messages(&self) -> bool {
        self.in_flight < MAX_IN_FLIGHT && self.visible.iter().any(|visible| !visible.is_empty())
    }

    /// Receives a batch.
    pub(super) fn receive(&mut self, batch: &mut Vec<Message>) {
        let [others, quiet] = &mut self.visible;
        while batch.len() < BATCH && self.in_flight < MAX_IN_FLIGHT {
            let Some(mut message) = quiet.pop_front().or_else(|| others.pop_front()) else { break };
            if message.receives >= self.max_receives {
                self.dead_letters += 1;
                continue;
            }
            message.receives += 1;
            self.in_flight += 1;
            batch.push(message);
        }
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
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

    fn receive(queue: &mut Queue<impl Iterator<Item = (Ms, Message)>>) -> Vec<Message> {
        let mut batch = Vec::new();
        queue.receive(&mut batch);
        batch
    }

    #[test]
    fn what_is_visible_is_received_by_tens_in_its_order() {
        let mut queue = Queue::new(messages(25), 5, false);
        queue.advance(19);
        let mut sizes = Vec::new();
        while queue.has_messages() {
            sizes.push(receive(&mut queue).iter().map(|it| it.due).collect::<Vec<_>>());
        }
        assert_eq!(sizes, [(0..10).collect::<Vec<_>>(), (10..20).collect()]);
        assert_eq!(queue.next_change(), Some(20));
    }

    #[test]
    fn what_was_received_too_often_is_a_dead_letter() {
        let mut queue = Queue::new(messages(1), 2, false);
        for now in 0..2 {
            queue.advance(now);
            let message = receive(&mut queue)[0];
            assert_eq!(u64::from(message.receives), now + 1);
            queue.hide(message, now + 1);
        }
        queue.advance(2);
        assert_eq!((receive(&mut queue), queue.dead_letters), (Vec::new(), 1));
    }

    #[test]
    fn a_full_queue_hands_out_nothing_until_something_is_deleted_or_comes_back() {
        let mut queue = Queue::new(messages(MAX_IN_FLIGHT + 2), 5, false);
        queue.advance(Ms::MAX);
        while queue.has_messages() {
            receive(&mut queue);
        }
        assert_eq!(queue.most_in_flight, MAX_IN_FLIGHT);
        queue.delete();
        assert_eq!(receive(&mut queue).len(), 1);
        queue.hide(Message { due: 0, merchant: 0, receives: 1 }, 1);
        queue.advance(1);
        assert_eq!(receive(&mut queue).len(), 1);
    }

    #[test]
    fn a_fair_queue_hands_out_the_quiet_merchants_messages_first() {
        for (is_fair, place) in [(false, 9), (true, 0)] {
            let mut queue = Queue::new(messages(10), 5, is_fair);
            queue.advance(10);
            assert_eq!(receive(&mut queue).iter().position(|it| it.merchant == 1), Some(place));
        }
    }
}
