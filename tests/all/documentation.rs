//! What the documentation says of outcomes and faults, held against the code's own.

use close_order::{
    fault::Fault,
    http_client::SendError,
    order::{Invalid, Problem},
    outcome::Outcome,
    wechat_pay::{ReplyError, VerifyError},
};

fn read(page: &str) -> String {
    std::fs::read_to_string(format!("{}/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The first cells of a page's table rows, each with its whole row.
fn rows(page: &str) -> Vec<(String, String)> {
    let text = read(page);
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| (row.split('`').nth(1).unwrap().to_owned(), row.to_owned())).collect()
}

#[test]
fn every_outcome_has_a_row_of_its_own_on_the_front_pages() {
    for page in ["README.md", "README.zh-CN.md"] {
        for outcome in Outcome::ALL {
            let count = rows(page).iter().filter(|(name, _)| name == outcome.as_str()).count();
            assert_eq!(count, 1, "{page}: {}", outcome.as_str());
        }
    }
}

#[test]
fn every_fault_has_its_status_and_its_err_code() {
    let faults = [
        Fault::CredentialsUnavailable { cause: "denied".into() },
        Fault::GatewayUnreachable(SendError::TimedOut),
        Fault::ReplyInvalid(ReplyError { status: 200, error: Some(VerifyError::Signature) }.into()),
        Fault::DeadlineExceeded { was_sent: true },
        Fault::InternalError,
    ];
    for page in ["docs/outcomes.md", "docs/zh-CN/outcomes.md"] {
        let rows = rows(page);
        for fault in &faults {
            let (_, row) =
                rows.iter().find(|(name, _)| name == fault.error_type()).unwrap_or_else(|| panic!("{page}: {fault:?}"));
            let expected = format!("| {} | {} |", fault.http_status(), fault.err_code());
            assert!(row.contains(&expected), "{page}: {row}");
        }
        for raised in [Fault::UnsupportedEvent(Invalid::no_order("event", Problem::NOT_AN_OBJECT)), Fault::InvalidBatch]
        {
            assert!(rows.iter().any(|(name, _)| name == raised.error_type()), "{page}: {raised:?}");
        }
    }
}
