//! Requests to the broadcaster, the sweeper and the operator.

use std::sync::LazyLock;

use belfry_protocol::{
    BroadcastRequest, BroadcasterRequest, InvalidRequest, MessageId, OperatorRequest, SweepRequest,
    Timestamp,
};
use jsonschema::Validator;
use proptest::prelude::*;

use crate::config;
use crate::mutate::{Corpus, mutated};
use crate::schema::{
    BROADCAST_INQUIRY, BROADCAST_REQUEST, OPERATOR_REQUEST, PRESENCE_REQUEST, RECEIPTS_REQUEST,
    SERVER_FRAME, SWEEP_REQUEST, is_beyond_schemas, judged,
};

static BROADCASTS: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_cases("broadcast-requests.json"));
static INQUIRIES: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_cases("broadcast-inquiries.json"));
static PRESENCE: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_cases("presence-requests.json"));
static RECEIPTS: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_cases("receipts-requests.json"));
static SWEEPS: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_cases("sweep-requests.json"));
static OPERATORS: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_cases("operator-requests.json"));

/// Checks that the parser accepts what the schema accepts, with short errors.
fn agrees<T>(
    schema: &Validator,
    text: &str,
    parsed: &Result<T, InvalidRequest>,
) -> Result<(), TestCaseError> {
    let by_schema = judged(schema, text);
    match parsed {
        Ok(_) => prop_assert_eq!(by_schema, Some(true)),
        Err(error) => {
            let explanation = error.to_string();
            let beyond = is_beyond_schemas(&explanation);
            prop_assert!(by_schema != Some(true) || beyond, "{}", explanation);
            prop_assert!(explanation.len() <= 300, "{}", explanation);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_broadcast_request_is_accepted_as_its_schema_says(text in mutated(&BROADCASTS)) {
        let parsed = BroadcastRequest::parse(&text);
        agrees(&BROADCAST_REQUEST, &text, &parsed)?;
        if let Ok(request) = parsed {
            let id = MessageId::parse("m").unwrap();
            let notices = request.notices(&id);
            prop_assert!((1..=50).contains(&notices.len()));
            for (id, notice) in notices {
                let frame = notice.into_frame(id, Timestamp::from_millis(0), None, None);
                prop_assert_eq!(judged(&SERVER_FRAME, &frame.to_json()), Some(true));
            }
        }
    }

    #[test]
    fn a_broadcast_inquiry_is_accepted_as_its_schema_says(text in mutated(&INQUIRIES)) {
        match BroadcasterRequest::parse(&text) {
            Ok(BroadcasterRequest::Send(request)) => {
                agrees(&BROADCAST_REQUEST, &text, &Ok(request))?;
            }
            parsed @ Ok(BroadcasterRequest::Receipts(_)) => {
                agrees(&RECEIPTS_REQUEST, &text, &parsed)?;
            }
            parsed @ Ok(BroadcasterRequest::Presence(_)) => {
                agrees(&PRESENCE_REQUEST, &text, &parsed)?;
            }
            parsed => agrees(&BROADCAST_INQUIRY, &text, &parsed)?,
        }
    }

    #[test]
    fn a_request_for_receipts_is_accepted_as_its_schema_says(text in mutated(&RECEIPTS)) {
        match BroadcasterRequest::parse(&text) {
            Ok(
                BroadcasterRequest::Send(_)
                | BroadcasterRequest::Inquire(_)
                | BroadcasterRequest::Presence(_),
            ) => {}
            parsed => agrees(&RECEIPTS_REQUEST, &text, &parsed)?,
        }
    }

    #[test]
    fn a_request_for_presence_is_accepted_as_its_schema_says(text in mutated(&PRESENCE)) {
        match BroadcasterRequest::parse(&text) {
            Ok(
                BroadcasterRequest::Send(_)
                | BroadcasterRequest::Inquire(_)
                | BroadcasterRequest::Receipts(_),
            ) => {}
            parsed => agrees(&PRESENCE_REQUEST, &text, &parsed)?,
        }
    }

    #[test]
    fn a_sweep_request_is_accepted_as_its_schema_says(text in mutated(&SWEEPS)) {
        agrees(&SWEEP_REQUEST, &text, &SweepRequest::parse(&text))?;
    }

    #[test]
    fn an_operator_request_is_accepted_as_its_schema_says(text in mutated(&OPERATORS)) {
        agrees(&OPERATOR_REQUEST, &text, &OperatorRequest::parse(&text))?;
    }
}
