//! What happened to one order in a run: what the gateway was asked, what the function reported, what was published; and
//! the rules that all of it must keep.
//!
//! They are rules about sockets, the queue and the truth of what was confirmed. Which outcome follows from which replies
//! is for tables and property tests of the function itself.

use std::time::Instant;

use serde_json::Value;

use super::plan::{Part, PlannedOrder};
use crate::mock::{
    gateway::{Call, TradeState},
    identity::Flaw,
};

/// How many requests one invocation may send about one order: to closeorder, and to orderquery (two rounds of two).
const MAX_REQUESTS: [u64; 2] = [3, 4];

/// What the function reports of an order: the words of `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReportedOutcome {
    Closed,
    Paid,
    NotFound,
    Open,
    Unknown,
    Rejected,
    NotSent,
}

/// What the gateway knows of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroundTruth {
    Closed,
    Paid,
    Open,
    NeverMade,
}

/// One order's history.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) planned: PlannedOrder,
    /// What it was when all was over.
    pub(super) truth: GroundTruth,
    /// The requests about it, in the order in which they came.
    pub(super) requests: Vec<(Call, Instant)>,
    /// Whether a genuine reply about another order, or to another call, was among the replies.
    pub(super) was_replayed: bool,
    /// Whether a request met the rate limit: in the queue, attempts after that are not limited in number.
    pub(super) was_limited: bool,
    /// Before which moment nothing may be sent.
    pub(super) due: Option<Instant>,
    /// Whether a message of it is in the queue of invalid orders.
    pub(super) is_set_aside: bool,
    pub(super) invocations: Vec<Invocation>,
    pub(super) waits: Vec<Wait>,
    pub(super) published: Vec<Published>,
}

/// One invocation, as far as it is about the order.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    /// From its log line.
    pub(super) outcome: ReportedOutcome,
    /// Whether the log line says that a query proved the outcome.
    pub(super) is_confirmed: bool,
    /// Whether the event asked for that.
    pub(super) was_to_confirm: bool,
    /// Requests to closeorder and to orderquery, from its log line.
    pub(super) requests: [u64; 2],
    /// What the caller got.
    pub(super) answer: Answer,
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// Whether there was time for a query.
    pub(super) has_time: bool,
    /// The parts in which there was an incident meanwhile.
    pub(super) incidents: Vec<Part>,
}

/// One invocation in which a message of the order waited for its time.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub(super) is_acknowledged: bool,
    pub(super) from: Instant,
    pub(super) to: Instant,
}

/// What the caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A direct call's `outcome`; `None` with a function error.
    Direct(Option<ReportedOutcome>),
    /// Whether the message left the queue.
    Message { is_acknowledged: bool },
}

/// An event about the order.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) outcome: Option<ReportedOutcome>,
    pub(super) at: Instant,
    /// What is wrong with it in itself, if anything.
    pub(super) mistake: Option<&'static str>,
}

impl ReportedOutcome {
    pub(super) fn read(outcome: &Value) -> Option<Self> {
        Some(match outcome.as_str()? {
            "closed" => Self::Closed,
            "paid" => Self::Paid,
            "not_found" => Self::NotFound,
            "open" => Self::Open,
            "unknown" => Self::Unknown,
            "rejected" => Self::Rejected,
            "not_sent" => Self::NotSent,
            _ => return None,
        })
    }

    /// Whether nothing is left to do about the order: its message is acknowledged.
    pub(super) fn is_conclusive(self) -> bool {
        matches!(self, Self::Closed | Self::Paid | Self::NotFound)
    }

    /// Whether the order is what the outcome says.
    fn is_true(self, truth: GroundTruth) -> bool {
        match self {
            Self::Closed => truth == GroundTruth::Closed,
            Self::Paid => truth == GroundTruth::Paid,
            Self::NotFound => truth == GroundTruth::NeverMade,
            Self::Open => truth == GroundTruth::Open,
            Self::Unknown | Self::Rejected | Self::NotSent => false,
        }
    }
}

impl GroundTruth {
    pub(super) fn new(state: Option<TradeState>) -> Self {
        match state {
            None => Self::NeverMade,
            Some(TradeState::Closed | TradeState::Revoked) => Self::Closed,
            Some(state) if state.is_paid() => Self::Paid,
            Some(_) => Self::Open,
        }
    }
}

impl Invocation {
    /// Whether it was under way then.
    fn is_during(&self, at: Instant) -> bool {
        (self.from..=self.to).contains(&at)
    }

    /// How many requests of this call the gateway received meanwhile.
    fn received(&self, history: &History, call: Call) -> u64 {
        let requests = history.requests.iter().filter(|&&(it, at)| it == call && self.is_during(at));
        requests.map(|_| 1).sum()
    }

    /// Whether another invocation was about the order at the same time.
    fn is_alone(&self, history: &History) -> bool {
        history.invocations.iter().filter(|other| other.from <= self.to && self.from <= other.to).count() == 1
    }

    /// Whether there was an incident meanwhile in what closing and querying the order takes.
    fn had_incident_about_order(&self) -> bool {
        self.incidents.iter().any(|part| matches!(part, Part::Gateway | Part::Secrets))
    }

    fn has_event(&self, event: &Published) -> bool {
        matches!(self.answer, Answer::Message { .. })
            && self.outcome.is_conclusive()
            && event.outcome == Some(self.outcome)
            && self.is_during(event.at)
    }
}

/// A rule about invocations: whether one keeps it; `None` if it is not about this one.
pub(super) struct InvocationRule {
    pub(super) text: &'static str,
    pub(super) holds: fn(&History, &Invocation) -> Option<bool>,
}

pub(super) const INVOCATION_RULES: [InvocationRule; 9] = [
    InvocationRule {
        text: "a confirmed `closed`, `paid` or `not_found` is what the gateway knows of the order, to the end",
        holds: |history, it| {
            // ORDERNOTEXIST names no order, so a genuine one about another order can't be told from this one's.
            let may_be_replayed = it.outcome == ReportedOutcome::NotFound && history.was_replayed;
            (it.is_confirmed && it.outcome.is_conclusive() && !may_be_replayed)
                .then(|| it.outcome.is_true(history.truth))
        },
    },
    InvocationRule {
        text: "with `confirm`, no `closed`, `paid` or `not_found` is said that is not confirmed",
        holds: |_, it| (it.was_to_confirm && it.outcome.is_conclusive()).then_some(it.is_confirmed),
    },
    InvocationRule {
        text: "where nothing goes wrong, the outcome is what the gateway knows of the order",
        holds: |history, it| {
            (history.planned.is_plain() && it.has_time && !it.had_incident_about_order())
                .then(|| it.outcome.is_true(history.truth))
        },
    },
    InvocationRule {
        text: "`not_sent`: the gateway received nothing, during an incident or for lack of a secret",
        holds: |history, it| {
            let has_received = || Call::ALL.iter().any(|&call| it.received(history, call) > 0);
            let is_expected = || it.had_incident_about_order() || history.planned.merchant.flaw == Some(Flaw::NoSecret);
            (it.outcome == ReportedOutcome::NotSent && it.is_alone(history) && !history.planned.is_invalid)
                .then(|| is_expected() && !has_received())
        },
    },
    InvocationRule {
        text: "with a wrong key nothing is known of an order, without a secret nothing is sent, and the message comes back",
        holds: |history, it| {
            let flaw = history.planned.merchant.flaw.filter(|_| !history.planned.is_invalid)?;
            let is_right = match flaw {
                Flaw::WrongKey => !it.outcome.is_conclusive() && it.outcome != ReportedOutcome::Open,
                Flaw::NoSecret => it.outcome == ReportedOutcome::NotSent && history.requests.is_empty(),
            };
            Some(is_right && it.answer != Answer::Message { is_acknowledged: true })
        },
    },
    InvocationRule {
        text: "at most 3 requests to closeorder and 4 to orderquery, and none was received that was not counted",
        holds: |history, it| {
            let received = [Call::CloseOrder, Call::OrderQuery].map(|call| it.received(history, call));
            let mut counts = it.requests.into_iter().zip(received).zip(MAX_REQUESTS);
            Some(counts.all(|((logged, received), most)| {
                (received <= logged || !it.is_alone(history)) && (logged <= most || history.was_limited)
            }))
        },
    },
    InvocationRule {
        text: "a direct call's answer has the outcome that was logged, and a function error leaves the order inconclusive",
        holds: |_, it| match it.answer {
            Answer::Direct(Some(outcome)) => Some(outcome == it.outcome),
            Answer::Direct(None) => Some(!it.outcome.is_conclusive() && it.outcome != ReportedOutcome::Rejected),
            Answer::Message { .. } => None,
        },
    },
    InvocationRule {
        text: "a message is acknowledged if its outcome is conclusive and published, and not otherwise",
        holds: |history, it| {
            let Answer::Message { is_acknowledged } = it.answer else { return None };
            if history.planned.is_invalid {
                return None;
            }
            let is_published = history.published.iter().any(|event| it.has_event(event));
            Some(if is_acknowledged {
                it.outcome.is_conclusive() && is_published
            } else {
                // A call of PutEvents can take the event and answer too late, or its answer be lost.
                !it.outcome.is_conclusive() || !is_published || !it.has_time || it.incidents.contains(&Part::Events)
            })
        },
    },
    InvocationRule {
        text: "an invalid message is acknowledged if it is in the queue of invalid orders, and nothing is sent",
        holds: |history, it| {
            let Answer::Message { is_acknowledged } = it.answer else { return None };
            history.planned.is_invalid.then(|| {
                let is_handled = history.is_set_aside || !is_acknowledged;
                // A call of SQS that fails, or that takes the message and whose answer is lost.
                let may_fail = it.incidents.contains(&Part::Queue) || !it.has_time;
                is_handled && (is_acknowledged || may_fail) && history.requests.is_empty()
            })
        },
    },
];

/// The rules about messages that are not due.
pub(super) const NOT_BEFORE: &str = "no request about an order is sent before its `close_at`";
pub(super) const WAITS: &str = "a message whose order is not due is not acknowledged, and has no request meanwhile";

/// The rule about events.
pub(super) const EVENT_RULE: &str =
    "an event has its message's outcome, order and merchant, and nothing secret; only messages have events";

impl History {
    /// Whether nothing was sent before its time; `None` for an order that is due at once.
    pub(super) fn is_sent_in_time(&self) -> Option<bool> {
        let due = self.due?;
        Some(self.requests.iter().all(|&(_, at)| at >= due))
    }

    /// Whether a message that waited was left in the queue.
    pub(super) fn is_left(&self, wait: &Wait) -> bool {
        let is_during = |at: Instant| (wait.from..=wait.to).contains(&at);
        !wait.is_acknowledged
            && !self.requests.iter().any(|&(_, at)| is_during(at) && self.due.is_none_or(|due| at < due))
    }

    /// Whether an event keeps the rule about events.
    pub(super) fn is_right(&self, event: &Published) -> bool {
        event.mistake.is_none() && self.invocations.iter().any(|it| it.has_event(event))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mock::{
        gateway::{Order, Times},
        identity::{Identity, Merchant},
    };

    /// A history of one message that was closed, confirmed, acknowledged and published; `change` makes another of it.
    fn history(change: impl FnOnce(&mut History)) -> History {
        let from = Instant::now();
        let planned = PlannedOrder {
            out_trade_no: "P000000".to_owned(),
            merchant: Merchant { identity: Identity::default(), flaw: None },
            order: Some(TradeState::NotPay.into()),
            faults: Vec::new(),
            confirm: Some(true),
            is_paid_after: None,
            due_in: None,
            is_sent_twice: false,
            is_invalid: false,
        };
        let invocation = Invocation {
            outcome: ReportedOutcome::Closed,
            is_confirmed: true,
            was_to_confirm: true,
            requests: [1, 1],
            answer: Answer::Message { is_acknowledged: true },
            from,
            to: from + Duration::from_secs(1),
            has_time: true,
            incidents: Vec::new(),
        };
        let mut history = History {
            planned,
            truth: GroundTruth::Closed,
            requests: vec![(Call::CloseOrder, from), (Call::OrderQuery, from)],
            was_replayed: false,
            was_limited: false,
            due: None,
            is_set_aside: false,
            waits: Vec::new(),
            invocations: vec![invocation],
            published: vec![Published { outcome: Some(ReportedOutcome::Closed), at: from, mistake: None }],
        };
        change(&mut history);
        history
    }

    /// The beginnings of the rules that a history breaks.
    fn broken(change: impl FnOnce(&mut History)) -> Vec<String> {
        let history = history(change);
        let invocation = &history.invocations[0];
        let rules = INVOCATION_RULES.iter().filter(|rule| (rule.holds)(&history, invocation) == Some(false));
        let events = history.published.iter().filter(|event| !history.is_right(event)).map(|_| EVENT_RULE);
        let broken = rules.map(|rule| rule.text).chain(events);
        broken.map(|text| text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
    }

    fn direct(history: &mut History, outcome: ReportedOutcome) {
        history.published.clear();
        history.invocations[0].outcome = outcome;
        history.invocations[0].answer = Answer::Direct(Some(outcome));
    }

    const CONFIRMED: &str = "a confirmed `closed`,";
    const NOTHING_WRONG: &str = "where nothing goes";
    const NOT_SENT: &str = "`not_sent`: the gateway";
    const REQUESTS: &str = "at most 3";
    const DIRECT: &str = "a direct call's";
    const ACKNOWLEDGED: &str = "a message is";
    const EVENT: &str = "an event has";
    const NONE: [&str; 0] = [];

    #[test]
    fn a_closed_order_breaks_no_rule() {
        assert_eq!(broken(|_| ()), NONE);
        assert_eq!(broken(|history| direct(history, ReportedOutcome::Closed)), NONE);
    }

    #[test]
    fn what_is_confirmed_is_true() {
        for truth in [GroundTruth::Paid, GroundTruth::Open, GroundTruth::NeverMade] {
            assert_eq!(broken(|history| history.truth = truth), [CONFIRMED, NOTHING_WRONG], "{truth:?}");
        }
        let not_found = |was_replayed| {
            broken(|history| {
                direct(history, ReportedOutcome::NotFound);
                history.was_replayed = was_replayed;
            })
        };
        assert_eq!(not_found(false), [CONFIRMED, NOTHING_WRONG]);
        assert_eq!(not_found(true), [NOTHING_WRONG]);
    }

    #[test]
    fn what_was_to_be_confirmed_is() {
        assert_eq!(broken(|history| history.invocations[0].is_confirmed = false), ["with `confirm`, no"]);
        let not_asked = |history: &mut History| {
            history.invocations[0].is_confirmed = false;
            history.invocations[0].was_to_confirm = false;
        };
        assert_eq!(broken(not_asked), NONE);
    }

    #[test]
    fn another_outcome_than_the_truth_is_excused_where_something_goes_wrong() {
        let unknown = |change: fn(&mut History)| {
            broken(|history| {
                direct(history, ReportedOutcome::Unknown);
                change(history);
            })
        };
        assert_eq!(unknown(|_| ()), [NOTHING_WRONG]);
        assert_eq!(unknown(|history| history.invocations[0].incidents.push(Part::Events)), [NOTHING_WRONG]);
        assert_eq!(unknown(|history| history.invocations[0].incidents.push(Part::Gateway)), NONE);
        assert_eq!(unknown(|history| history.invocations[0].has_time = false), NONE);
        assert_eq!(unknown(|history| history.planned.is_paid_after = Some(Duration::ZERO)), NONE);
        let limited = |history: &mut History| {
            history.planned.order = Some(Order { closes_limited: Times::Next(1), ..TradeState::NotPay.into() });
        };
        assert_eq!(unknown(limited), NONE);
    }

    #[test]
    fn nothing_is_received_of_what_was_not_sent() {
        let not_sent = |change: fn(&mut History)| {
            broken(|history| {
                direct(history, ReportedOutcome::NotSent);
                history.invocations[0].incidents.push(Part::Gateway);
                change(history);
            })
        };
        assert_eq!(not_sent(|_| ()), [NOT_SENT]);
        assert_eq!(not_sent(|history| history.requests.clear()), NONE);
        let without_incident = |history: &mut History| {
            history.requests.clear();
            history.invocations[0].incidents.clear();
        };
        assert_eq!(not_sent(without_incident), [NOTHING_WRONG, NOT_SENT]);
    }

    #[test]
    fn without_the_right_key_nothing_is_known_and_the_message_comes_back() {
        const FLAWED: &str = "with a wrong";
        let flawed = |flaw, outcome, change: fn(&mut History)| {
            broken(|history| {
                history.published.clear();
                history.planned.merchant.flaw = Some(flaw);
                history.invocations[0].outcome = outcome;
                history.invocations[0].answer = Answer::Message { is_acknowledged: false };
                change(history);
            })
        };
        for outcome in [ReportedOutcome::Rejected, ReportedOutcome::Unknown] {
            assert_eq!(flawed(Flaw::WrongKey, outcome, |_| ()), NONE, "{outcome:?}");
        }
        for outcome in [ReportedOutcome::Closed, ReportedOutcome::Open] {
            assert!(flawed(Flaw::WrongKey, outcome, |_| ()).contains(&FLAWED.to_owned()), "{outcome:?}");
        }
        let acknowledged =
            |history: &mut History| history.invocations[0].answer = Answer::Message { is_acknowledged: true };
        assert_eq!(flawed(Flaw::WrongKey, ReportedOutcome::Rejected, acknowledged), [FLAWED, ACKNOWLEDGED]);
        let no_secret = |outcome, change| flawed(Flaw::NoSecret, outcome, change);
        assert_eq!(no_secret(ReportedOutcome::NotSent, |history| history.requests.clear()), NONE);
        assert_eq!(no_secret(ReportedOutcome::NotSent, |_| ()), [NOT_SENT, FLAWED]);
        assert_eq!(no_secret(ReportedOutcome::Unknown, |history| history.requests.clear()), [FLAWED]);
    }

    #[test]
    fn requests_are_counted() {
        for requests in [[4, 1], [1, 5], [1, 0], [0, 1]] {
            assert_eq!(broken(|history| history.invocations[0].requests = requests), [REQUESTS], "{requests:?}");
        }
        let limited = |requests| {
            broken(|history| {
                history.was_limited = true;
                history.invocations[0].requests = requests;
            })
        };
        assert_eq!(limited([4, 5]), NONE);
        assert_eq!(limited([4, 0]), [REQUESTS]);
        // What came before or after is another invocation's.
        let earlier = |history: &mut History| history.requests[1].1 -= Duration::from_secs(1);
        assert_eq!(
            broken(|history| {
                earlier(history);
                history.invocations[0].requests = [1, 0];
            }),
            NONE
        );
    }

    #[test]
    fn an_answer_says_what_the_log_says() {
        let answer = |answer| {
            broken(|history| {
                direct(history, ReportedOutcome::Closed);
                history.invocations[0].answer = Answer::Direct(answer);
            })
        };
        assert_eq!(answer(Some(ReportedOutcome::Paid)), [DIRECT]);
        assert_eq!(answer(None), [DIRECT]);
    }

    #[test]
    fn a_message_is_acknowledged_only_when_conclusive_and_published() {
        assert_eq!(broken(|history| history.published.clear()), [ACKNOWLEDGED]);
        let too_early = |history: &mut History| history.published[0].at -= Duration::from_secs(1);
        assert_eq!(broken(too_early), [ACKNOWLEDGED, EVENT]);
        assert_eq!(
            broken(|history| history.invocations[0].outcome = ReportedOutcome::Open),
            [NOTHING_WRONG, ACKNOWLEDGED, EVENT]
        );
        let kept = |incidents| {
            broken(|history| {
                history.invocations[0].answer = Answer::Message { is_acknowledged: false };
                history.invocations[0].incidents = incidents;
            })
        };
        assert_eq!(kept(vec![Part::Gateway]), [ACKNOWLEDGED]);
        assert_eq!(kept(vec![Part::Events]), NONE);
        let too_late = |history: &mut History| {
            history.invocations[0].answer = Answer::Message { is_acknowledged: false };
            history.invocations[0].has_time = false;
        };
        assert_eq!(broken(too_late), NONE);
    }

    #[test]
    fn an_invalid_message_goes_aside_and_nothing_is_sent() {
        const INVALID: &str = "an invalid message";
        let invalid = |change: fn(&mut History)| {
            broken(|history| {
                history.published.clear();
                history.requests.clear();
                history.planned.is_invalid = true;
                history.is_set_aside = true;
                history.invocations[0].outcome = ReportedOutcome::NotSent;
                history.invocations[0].requests = [0, 0];
                change(history);
            })
        };
        assert_eq!(invalid(|_| ()), NONE);
        assert_eq!(invalid(|history| history.is_set_aside = false), [INVALID]);
        let kept = |history: &mut History| {
            history.invocations[0].answer = Answer::Message { is_acknowledged: false };
        };
        assert_eq!(invalid(kept), [INVALID]);
        let sent = |history: &mut History| {
            history.requests.push((Call::CloseOrder, history.invocations[0].from));
            history.invocations[0].requests = [1, 0];
        };
        assert_eq!(invalid(sent), [INVALID]);
    }

    #[test]
    fn what_is_not_due_waits() {
        let history = |due_after: u64| {
            history(|history| history.due = Some(history.invocations[0].from + Duration::from_secs(due_after)))
        };
        assert_eq!(history(0).is_sent_in_time(), Some(true));
        assert_eq!(history(1).is_sent_in_time(), Some(false));
        let history = history(1);
        let from = history.invocations[0].from;
        let wait = |is_acknowledged, from: Instant| Wait { is_acknowledged, from, to: from + Duration::from_millis(1) };
        let later = from + Duration::from_millis(500);
        let left = [wait(false, later), wait(true, later), wait(false, from)].map(|wait| history.is_left(&wait));
        assert_eq!(left, [true, false, false]);
    }

    #[test]
    fn events_are_only_of_messages_and_right() {
        assert_eq!(broken(|history| history.published[0].outcome = Some(ReportedOutcome::Paid)), [ACKNOWLEDGED, EVENT]);
        assert_eq!(broken(|history| history.published[0].mistake = Some("something secret")), [EVENT]);
        let of_direct_call = |history: &mut History| {
            let published = history.published.clone();
            direct(history, ReportedOutcome::Closed);
            history.published = published;
        };
        assert_eq!(broken(of_direct_call), [EVENT]);
    }
}
