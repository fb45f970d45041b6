//! Payloads with the outputs of the jobs that a job comes after in its flow.
//!
//! Such a job's handler gets `{"payload": …, "parents": {NAME: {"state": …, "output": …}}}`. What is no JSON stands there as a text if
//! it is one, or else as `{"hex": …}`.

use sandhog_broker::{Broker, ParentView, Result};
use sandhog_core::flow::PARENT_OUTPUTS_MAX;
use sandhog_core::job::Job;
use serde_json::value::{RawValue, to_raw_value};

/// Returns the payload that the handler of a job gets. It is the job's own unless the job takes the outputs of others.
pub(crate) async fn payload(broker: &dyn Broker, job: &Job) -> Result<Vec<u8>> {
    if !job.options.flow.is_some_and(|member| member.takes_outputs) {
        return Ok(job.payload.clone());
    }
    let bytes = usize::try_from(PARENT_OUTPUTS_MAX.0).unwrap_or(usize::MAX);
    let parents = broker.parents(&job.tenant, job.id, bytes).await?;
    Ok(with_outputs(&job.payload, &parents))
}

fn with_outputs(payload: &[u8], parents: &[ParentView]) -> Vec<u8> {
    let mut text = br#"{"payload":"#.to_vec();
    text.extend_from_slice(value(payload).get().as_bytes());
    text.extend_from_slice(br#","parents":{"#);
    for (nth, ParentView { name, state, output, .. }) in parents.iter().enumerate() {
        let state = state.map_or_else(|| "null".to_owned(), |state| format!("\"{state}\""));
        let output = output.as_deref().map(value);
        let output = output.as_ref().map_or("null", |output| output.get());
        let comma = if nth > 0 { "," } else { "" };
        // Names and states have nothing in them that JSON would escape.
        text.extend_from_slice(
            format!(r#"{comma}"{name}":{{"state":{state},"output":{output}}}"#).as_bytes(),
        );
    }
    text.extend_from_slice(b"}}");
    text
}

/// Returns bytes as a JSON value, to the last digit where they are one.
fn value(bytes: &[u8]) -> Box<RawValue> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    let made = match std::str::from_utf8(bytes) {
        Ok(text) => to_raw_value(text),
        Err(_) => to_raw_value(&serde_json::json!({ "hex": data_encoding::HEXLOWER.encode(bytes) })),
    };
    made.expect("a text can be written as JSON")
}

#[cfg(test)]
mod tests {
    use sandhog_core::id::{FlowJobName, JobId};
    use sandhog_core::job::State;
    use sandhog_core::time::Timestamp;

    use super::*;

    fn parent(name: &str, state: Option<State>, output: Option<&[u8]>) -> ParentView {
        ParentView {
            name: FlowJobName::parse(name).expect("a valid name"),
            id: JobId::from_parts(Timestamp::from_millis(1), 1),
            state,
            output: output.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn outputs_stand_beside_the_payload_by_the_names_of_their_jobs() {
        let parents = [
            parent("fetch", Some(State::Succeeded), Some(b"{\"n\": 1e400}")),
            parent("resize", Some(State::Succeeded), Some(b"plain \"text\"")),
            parent("scan", Some(State::Succeeded), Some(b"\xff\x00")),
            parent("check", Some(State::Dead), None),
            parent("gone", None, None),
        ];
        let made = with_outputs(b"[1, 2]", &parents);
        let expected = concat!(
            r#"{"payload":[1, 2],"parents":{"fetch":{"state":"succeeded","output":{"n": 1e400}},"#,
            r#""resize":{"state":"succeeded","output":"plain \"text\""},"#,
            r#""scan":{"state":"succeeded","output":{"hex":"ff00"}},"#,
            r#""check":{"state":"dead","output":null},"gone":{"state":null,"output":null}}}"#
        );
        assert_eq!(String::from_utf8(made).expect("a text"), expected);
        assert_eq!(with_outputs(b"1", &[]), br#"{"payload":1,"parents":{}}"#);
    }
}
