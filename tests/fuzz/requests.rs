//! Requests to the broadcaster.

use std::sync::LazyLock;

use belfry_protocol::{BroadcastRequest, MessageId, Timestamp};
use proptest::prelude::*;

use crate::config;
use crate::mutate::{Corpus, mutated};
use crate::schema::{BROADCAST_REQUEST, SERVER_FRAME, is_beyond_schemas, judged};

static CASES: LazyLock<Corpus> = LazyLock::new(|| Corpus::of_cases("broadcast-requests.json"));

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_request_is_taken_or_refused_as_its_schema_says(text in mutated(&CASES)) {
        let by_schema = judged(&BROADCAST_REQUEST, &text);
        match BroadcastRequest::parse(&text) {
            Ok(request) => {
                prop_assert_eq!(by_schema, Some(true));
                let id = MessageId::parse("m").unwrap();
                let frame = request.message.into_frame(&id, Timestamp::from_millis(0));
                prop_assert_eq!(judged(&SERVER_FRAME, &frame.to_json()), Some(true));
            }
            Err(error) => {
                let explanation = error.to_string();
                let beyond = is_beyond_schemas(&explanation);
                prop_assert!(by_schema != Some(true) || beyond, "{}", explanation);
                prop_assert!(explanation.len() <= 300, "{}", explanation);
            }
        }
    }
}
