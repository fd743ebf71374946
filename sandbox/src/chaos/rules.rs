//! What must hold, rule by rule, of every statement about an order and every event about it.

use super::{
    history::{Answer, Claim, Exchange, History, Meaning, Published, Reply, Statement},
    plan::Part,
};
use crate::mock::gateway::{Call, TradeState};

/// How many requests one invocation may send about one order: to closeorder, and to orderquery (two rounds of two).
const MAX_REQUESTS: [u64; 2] = [3, 4];

/// A rule about statements: whether one keeps it; `None` if it is not about this one.
pub(super) struct StatementRule {
    pub(super) text: &'static str,
    pub(super) holds: fn(&History, &Statement) -> Option<bool>,
}

/// A rule about events.
pub(super) struct EventRule {
    pub(super) text: &'static str,
    pub(super) holds: fn(&History, &Published) -> bool,
}

pub(super) const STATEMENT_RULES: [StatementRule; 13] = [
    StatementRule {
        text: "a proved `closed`: the order is closed at the gateway to the end",
        holds: |history, statement| {
            (statement.claim == Claim::Closed && statement.is_proved).then(|| is_closed(history.final_state))
        },
    },
    StatementRule {
        text: "`closed` on WeChat Pay's word alone: it is, or the close did not stick or nobody made it, and no query told",
        holds: |history, statement| {
            let is_meant = statement.claim == Claim::Closed && !statement.is_proved;
            (is_meant && !is_replayed(history, statement)).then(|| {
                let is_queried =
                    says(history, statement, |exchange| exchange.call == Call::OrderQuery && exchange.is_told());
                is_closed(history.final_state) || (!history.planned.closes_stick() && !is_queried)
            })
        },
    },
    StatementRule {
        text: "`paid`: the order is paid at the gateway",
        holds: |history, statement| {
            (statement.claim == Claim::Paid && !is_replayed(history, statement))
                .then(|| history.final_state.is_some_and(TradeState::is_paid))
        },
    },
    StatementRule {
        text: "`not_found`: nobody made the order",
        holds: |history, statement| {
            (statement.claim == Claim::NotFound && !is_replayed(history, statement))
                .then(|| history.planned.order.is_none())
        },
    },
    StatementRule {
        text: "`closed`, `paid`, `not_found`: a genuine reply said so, neither forged nor replayed",
        holds: |history, statement| {
            let meaning = match statement.claim {
                Claim::Closed => Meaning::Closed,
                Claim::Paid => Meaning::Paid,
                Claim::NotFound => Meaning::NotFound,
                Claim::Open | Claim::Unknown | Claim::Rejected | Claim::NotSent => return None,
            };
            (!is_replayed(history, statement))
                .then(|| says(history, statement, |exchange| exchange.reply == Reply::Genuine(meaning)))
        },
    },
    StatementRule {
        text: "`open`: the gateway said so, and nothing else after it",
        holds: |history, statement| {
            (statement.claim == Claim::Open && !is_replayed(history, statement)).then(|| {
                let exchanges: Vec<&Exchange> = history.exchanges_of(statement).collect();
                let last = exchanges.iter().rposition(|exchange| exchange.reply == Reply::Genuine(Meaning::Open));
                let mut told = exchanges.iter().enumerate().filter(|(_, exchange)| exchange.is_told());
                let is_refuted = told.any(|(index, exchange)| {
                    let is_later = last.is_some_and(|last| index > last);
                    match (exchange.reply, exchange.call) {
                        (Reply::Genuine(Meaning::Paid), Call::CloseOrder) => true,
                        (Reply::Genuine(Meaning::Closed | Meaning::Paid | Meaning::NotFound), Call::OrderQuery) => {
                            is_later
                        }
                        _ => false,
                    }
                });
                last.is_some() && !is_refuted
            })
        },
    },
    StatementRule {
        text: "`unknown`: something went wrong with the calls about the order",
        holds: |history, statement| (statement.claim == Claim::Unknown).then(|| !history.is_undisturbed(statement)),
    },
    StatementRule {
        text: "`rejected`: the gateway rejected the request",
        holds: |history, statement| {
            (statement.claim == Claim::Rejected)
                .then(|| says(history, statement, |exchange| exchange.reply == Reply::Genuine(Meaning::Rejected)))
        },
    },
    StatementRule {
        text: "`not_sent`: the gateway received nothing, during an incident",
        holds: |history, statement| {
            (statement.claim == Claim::NotSent)
                .then(|| statement.had_incident_about_order() && !says(history, statement, |_| true))
        },
    },
    StatementRule {
        text: "where nothing goes wrong, the outcome is the order's state, and proved exactly where that was asked for",
        holds: |history, statement| {
            if !history.is_undisturbed(statement) || history.planned.is_paid_after.is_some() {
                return None;
            }
            let claim = match statement.state_before {
                Some(TradeState::NotPay) if history.planned.closes_stick() => Claim::Closed,
                Some(TradeState::Success | TradeState::Refund) => Claim::Paid,
                Some(TradeState::UserPaying) => Claim::Open,
                None if statement.is_confirmed || is_not_found(history, statement) => Claim::NotFound,
                Some(TradeState::Closed) | None => Claim::Closed,
                Some(_) => return None,
            };
            let is_proved = matches!(claim, Claim::Closed | Claim::Paid) && statement.is_confirmed;
            let [_, queries] = statement.requests;
            Some(
                statement.claim == claim
                    && (history.planned.queries_lag() || statement.is_proved == is_proved)
                    && (claim == Claim::Open || (queries > 0) == statement.is_confirmed),
            )
        },
    },
    StatementRule {
        text: "at most 3 requests to closeorder and 4 to orderquery, as many as were received where nothing went wrong",
        holds: |history, statement| {
            let received = [Call::CloseOrder, Call::OrderQuery].map(|call| {
                let exchanges = history.exchanges_of(statement).filter(|exchange| exchange.call == call);
                u64::try_from(exchanges.count()).unwrap_or(u64::MAX)
            });
            let is_right = |((logged, received), most)| received <= logged && logged <= most;
            let is_exact = !history.is_undisturbed(statement) || received == statement.requests;
            Some(is_exact && statement.requests.into_iter().zip(received).zip(MAX_REQUESTS).all(is_right))
        },
    },
    StatementRule {
        text: "a direct call's answer has the outcome that was logged, and a function error leaves the order unsettled",
        holds: |_, statement| match statement.answer {
            Answer::Direct(Some(claim)) => Some(claim == statement.claim),
            Answer::Direct(None) => Some(!statement.claim.is_final() && statement.claim != Claim::Rejected),
            Answer::Message { .. } => None,
        },
    },
    StatementRule {
        text: "a message leaves the queue if the order is settled and that is published, and not otherwise",
        holds: |history, statement| match statement.answer {
            Answer::Direct(_) => None,
            Answer::Message { is_acknowledged } => {
                let is_published = history.published.iter().any(|event| is_event_of(event, statement));
                let may_be_kept = statement.incidents.contains(&Part::Events) || !is_published;
                Some(if is_acknowledged {
                    statement.claim.is_final() && is_published
                } else {
                    !statement.claim.is_final() || may_be_kept
                })
            }
        },
    },
];

pub(super) const EVENT_RULES: [EventRule; 2] = [
    EventRule {
        text: "an event has the outcome that its message came to, and only messages have events",
        holds: |history, event| history.statements.iter().any(|statement| is_event_of(event, statement)),
    },
    EventRule {
        text: "an event names the order and the merchant, and nothing secret",
        holds: |_, event| event.mistake.is_none(),
    },
];

fn is_closed(state: Option<TradeState>) -> bool {
    matches!(state, Some(TradeState::Closed | TradeState::Revoked))
}

fn says(history: &History, statement: &Statement, what: impl Fn(&Exchange) -> bool) -> bool {
    history.exchanges_of(statement).any(what)
}

/// Whether closeorder itself said that there is no such order, which it rarely does.
fn is_not_found(history: &History, statement: &Statement) -> bool {
    says(history, statement, |exchange| {
        exchange.call == Call::CloseOrder && exchange.reply == Reply::Genuine(Meaning::NotFound)
    })
}

/// Whether the claim may rest on a genuine reply about another order that another process got: nothing in it gives it
/// away but the `out_trade_no` that proofs have. [`super::run()`] calls those that the same process got disturbed.
fn is_replayed(history: &History, statement: &Statement) -> bool {
    !statement.is_proved && says(history, statement, |exchange| exchange.reply == Reply::Replayed)
}

fn is_event_of(event: &Published, statement: &Statement) -> bool {
    matches!(statement.answer, Answer::Message { .. })
        && statement.claim.is_final()
        && event.claim == Some(statement.claim)
        && statement.is_during(event.at)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        chaos::{Ledger, PlannedOrder},
        mock::gateway::{Order, Times},
    };

    /// A history of one statement, of a queried message that was acknowledged and published, of an order that is closed;
    /// `change` makes another one of it.
    fn history(change: impl FnOnce(&mut History)) -> History {
        let from = Instant::now();
        let exchange =
            |call| Exchange { call, at: from, reply: Reply::Genuine(Meaning::Closed), nonce: None, is_doubled: false };
        let planned = PlannedOrder {
            out_trade_no: "P000000".to_owned(),
            order: Some(TradeState::NotPay.into()),
            faults: Vec::new(),
            is_forged: false,
            confirm: Some(true),
            is_paid_after: None,
        };
        let statement = Statement {
            claim: Claim::Closed,
            is_proved: true,
            requests: [1, 1],
            answer: Answer::Message { is_acknowledged: true },
            is_confirmed: true,
            state_before: Some(TradeState::NotPay),
            from,
            to: from + Duration::from_secs(1),
            function: 0,
            incidents: Vec::new(),
        };
        let mut history = History {
            planned,
            final_state: Some(TradeState::Closed),
            exchanges: vec![exchange(Call::CloseOrder), exchange(Call::OrderQuery)],
            statements: vec![statement],
            published: vec![Published { claim: Some(Claim::Closed), at: from, mistake: None }],
        };
        change(&mut history);
        history
    }

    /// The rules that a history breaks.
    fn broken(change: impl FnOnce(&mut History)) -> Vec<&'static str> {
        let mut ledger = Ledger::default();
        ledger.enter(&history(change));
        ledger.rules().filter(|rule| !rule.broken.is_empty()).map(|rule| rule.text).collect()
    }

    fn assert_breaks(rule: &str, change: impl FnOnce(&mut History)) {
        let broken = broken(change);
        assert!(broken.iter().any(|text| text.starts_with(rule)), "{rule}: {broken:?}");
    }

    /// Makes it a direct call without a query.
    fn make_direct(history: &mut History, claim: Claim) {
        history.published.clear();
        history.exchanges.truncate(1);
        let statement = &mut history.statements[0];
        (statement.claim, statement.answer) = (claim, Answer::Direct(Some(claim)));
        (statement.is_proved, statement.is_confirmed, statement.requests) = (false, false, [1, 0]);
    }

    fn replies(history: &mut History, replies: &[(Call, Reply)]) {
        let at = history.statements[0].from;
        history.exchanges =
            replies.iter().map(|&(call, reply)| Exchange { call, at, reply, nonce: None, is_doubled: false }).collect();
    }

    #[test]
    fn a_closed_order_breaks_no_rule() {
        assert_eq!(broken(|_| ()), <[&str; 0]>::default());
        assert_eq!(broken(|history| make_direct(history, Claim::Closed)), <[&str; 0]>::default());
    }

    #[test]
    fn an_order_that_is_paid_or_open_in_the_end_was_never_proved_closed() {
        for state in [Some(TradeState::Success), Some(TradeState::NotPay), None] {
            assert_breaks("a proved `closed`", |history| history.final_state = state);
        }
    }

    #[test]
    fn closed_on_wechat_pays_word_is_excused_only_where_no_query_could_tell() {
        let rule = "`closed` on WeChat Pay's word alone";
        let open = |history: &mut History| {
            make_direct(history, Claim::Closed);
            history.final_state = Some(TradeState::NotPay);
        };
        let not_sticking = Some(Order { closes_not_sticking: Times::Always, ..TradeState::NotPay.into() });
        assert_breaks(rule, open);
        let excused = broken(|history| {
            open(history);
            history.planned.order.clone_from(&not_sticking);
        });
        assert_eq!(excused, <[&str; 0]>::default());
        assert_breaks(rule, |history| {
            open(history);
            history.planned.order.clone_from(&not_sticking);
            let told = Reply::Genuine(Meaning::Open);
            replies(history, &[(Call::CloseOrder, Reply::Genuine(Meaning::Closed)), (Call::OrderQuery, told)]);
        });
        let doubled = broken(|history| {
            open(history);
            history.planned.order = not_sticking;
            let told = Reply::Genuine(Meaning::NotFound);
            replies(history, &[(Call::CloseOrder, Reply::Genuine(Meaning::Closed)), (Call::OrderQuery, told)]);
            history.exchanges[1].is_doubled = true;
            history.statements[0].requests = [1, 1];
        });
        assert_eq!(doubled, <[&str; 0]>::default());
    }

    #[test]
    fn paid_and_not_found_are_so_at_the_gateway() {
        assert_breaks("`paid`: the order is paid", |history| make_direct(history, Claim::Paid));
        assert_breaks("`not_found`: nobody made", |history| make_direct(history, Claim::NotFound));
    }

    #[test]
    fn a_forged_or_replayed_reply_settles_nothing() {
        let rule = "`closed`, `paid`, `not_found`: a genuine reply";
        for reply in [Reply::Disturbed, Reply::Genuine(Meaning::Undecided), Reply::Genuine(Meaning::Open)] {
            assert_breaks(rule, |history| replies(history, &[(Call::CloseOrder, reply), (Call::OrderQuery, reply)]));
        }
        let replayed = |is_proved| {
            broken(|history| {
                replies(history, &[(Call::CloseOrder, Reply::Replayed), (Call::OrderQuery, Reply::Disturbed)]);
                history.final_state = Some(TradeState::NotPay);
                history.statements[0].is_proved = is_proved;
            })
        };
        assert_eq!(replayed(true).len(), 2);
        assert_eq!(replayed(false), <[&str; 0]>::default());
    }

    #[test]
    fn open_is_what_the_gateway_said_last() {
        let rule = "`open`: the gateway said so";
        let open = Reply::Genuine(Meaning::Open);
        let [closed, paid] = [Meaning::Closed, Meaning::Paid].map(Reply::Genuine);
        let breaks = |exchanges: &[(Call, Reply)]| {
            let broken = broken(|history| {
                make_direct(history, Claim::Open);
                replies(history, exchanges);
            });
            broken.iter().any(|text| text.starts_with(rule))
        };
        assert!(!breaks(&[(Call::CloseOrder, closed), (Call::OrderQuery, open)]));
        assert!(!breaks(&[(Call::OrderQuery, open), (Call::CloseOrder, closed), (Call::OrderQuery, Reply::Disturbed)]));
        assert!(breaks(&[(Call::CloseOrder, Reply::Disturbed)]));
        assert!(breaks(&[(Call::OrderQuery, open), (Call::OrderQuery, closed)]));
        assert!(breaks(&[(Call::OrderQuery, open), (Call::OrderQuery, paid)]));
        assert!(breaks(&[(Call::CloseOrder, paid), (Call::OrderQuery, open)]));
    }

    #[test]
    fn unknown_rejected_and_not_sent_have_their_causes() {
        let doubled = |is_doubled| {
            broken(|history| {
                make_direct(history, Claim::Unknown);
                history.exchanges[0].is_doubled = is_doubled;
            })
        };
        assert!(doubled(false).iter().any(|text| text.starts_with("`unknown`: something went wrong")));
        assert_eq!(doubled(true), <[&str; 0]>::default());
        assert_breaks("`rejected`: the gateway rejected", |history| make_direct(history, Claim::Rejected));
        assert_breaks("`not_sent`: the gateway received nothing", |history| {
            make_direct(history, Claim::NotSent);
            history.statements[0].incidents.push(Part::Gateway);
        });
        assert_breaks("`not_sent`: the gateway received nothing", |history| {
            make_direct(history, Claim::NotSent);
            history.exchanges.clear();
        });
    }

    #[test]
    fn where_nothing_goes_wrong_the_outcome_is_the_state() {
        let rule = "where nothing goes wrong";
        assert_breaks(rule, |history| history.statements[0].state_before = Some(TradeState::Success));
        assert_breaks(rule, |history| history.statements[0].is_proved = false);
        assert_breaks(rule, |history| history.statements[0].is_confirmed = false);
        assert_breaks(rule, |history| {
            make_direct(history, Claim::Closed);
            history.statements[0].requests = [1, 1];
        });
    }

    #[test]
    fn requests_are_counted() {
        let rule = "at most 3 requests";
        assert_breaks(rule, |history| history.statements[0].requests = [4, 1]);
        assert_breaks(rule, |history| history.statements[0].requests = [1, 5]);
        assert_breaks(rule, |history| history.statements[0].requests = [1, 0]);
        assert_breaks(rule, |history| {
            history.statements[0].requests = [3, 1];
            replies(history, &[(Call::CloseOrder, Reply::Disturbed); 4]);
        });
    }

    #[test]
    fn an_answer_says_what_the_log_says() {
        let rule = "a direct call's answer has the outcome";
        assert_breaks(rule, |history| history.statements[0].answer = Answer::Direct(Some(Claim::Paid)));
        assert_breaks(rule, |history| history.statements[0].answer = Answer::Direct(None));
    }

    #[test]
    fn a_message_leaves_the_queue_only_when_settled_and_published() {
        let rule = "a message leaves the queue";
        assert_breaks(rule, |history| history.published.clear());
        assert_breaks(rule, |history| history.published[0].claim = Some(Claim::Paid));
        assert_breaks(rule, |history| history.published[0].at -= Duration::from_secs(1));
        assert_breaks(rule, |history| history.statements[0].claim = Claim::Open);
        let kept = |incidents| {
            broken(|history| {
                history.statements[0].answer = Answer::Message { is_acknowledged: false };
                history.statements[0].incidents = incidents;
            })
        };
        assert_eq!(kept(vec![Part::Gateway]).len(), 1);
        assert_eq!(kept(vec![Part::Events]), <[&str; 0]>::default());
    }

    #[test]
    fn events_are_only_of_messages_and_have_their_outcome() {
        let rule = "an event has the outcome";
        assert_breaks(rule, |history| history.published[0].claim = Some(Claim::Open));
        assert_breaks(rule, |history| {
            make_direct(history, Claim::Closed);
            let at = history.statements[0].from;
            history.published.push(Published { claim: Some(Claim::Closed), at, mistake: None });
        });
        assert_breaks("an event names the order", |history| history.published[0].mistake = Some("something secret"));
    }
}
