//! Requests of every shape: methods, bodies, lengths, many in a row.
//!
//! They speak `wasi:http` as a library of one's own would, and not as [`Context::http`](sandhog_sdk::Context::http) does: in
//! bodies that are larger than the guest's memory, are never read or flushed once too often, and in trailers, they have what
//! that client, which returns whole responses, keeps from its handlers.

use sandhog_sdk::{Result, handler, permanent};
use serde::{Deserialize, Serialize};

/// What to send, and how often.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// `http://host:port/path`, or with `https`.
    pub url: String,
    /// The method, such as `POST`.
    #[serde(default = "get")]
    pub method: String,
    /// Bytes of the request's body; none: no body.
    #[serde(default)]
    pub send: Option<usize>,
    /// Whether a `content-length` says so before.
    #[serde(default)]
    pub announced: bool,
    /// How often, one after the other.
    #[serde(default = "once")]
    pub times: usize,
    /// Whether it goes on whatever comes of a request.
    #[serde(default)]
    pub heedless: bool,
    /// Whether the bodies of the responses are left unread.
    #[serde(default)]
    pub unread: bool,
}

fn get() -> String {
    "GET".to_owned()
}

fn once() -> usize {
    1
}

/// What came of it.
#[derive(Debug, Serialize, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// The status of the last response.
    pub status: u16,
    /// Bytes of all responses' bodies.
    pub received: usize,
    /// The beginning of the last body, as text.
    pub body: String,
    /// The header fields of the last response.
    pub headers: Vec<(String, String)>,
    /// And those after its body.
    pub trailers: Vec<(String, String)>,
}

/// Sends requests, and says what came of the last of them.
#[handler(kind = "hog.exchange")]
pub fn exchange(input: Exchange) -> Result<Exchanged> {
    let mut exchanged = Exchanged::default();
    for number in 0..input.times {
        let received = exchanged.received;
        match http::send(&input) {
            Ok(last) => exchanged = last,
            Err(_) if input.heedless => continue,
            Err(error) => return Err(permanent(format!("request {number}: {error}"))),
        }
        exchanged.received += received;
    }
    Ok(exchanged)
}

#[cfg(target_family = "wasm")]
mod http {
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{
        Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
    };
    use wasip2::io::streams::StreamError;

    use super::{Exchange, Exchanged};

    /// The most that a blocking write takes at once.
    const PIECE: usize = 4096;

    /// How much of a body is returned.
    const SHOWN: usize = 1000;

    pub(super) fn send(input: &Exchange) -> Result<Exchanged, String> {
        let (scheme, rest) = input.url.split_once("://").ok_or("no scheme")?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let fields = Fields::new();
        if let Some(length) = input.send.filter(|_| input.announced) {
            let length = length.to_string().into_bytes();
            fields.append("content-length", &length).map_err(|error| format!("{error:?}"))?;
        }
        let request = OutgoingRequest::new(fields);
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        request.set_scheme(Some(&scheme)).map_err(|()| "bad scheme")?;
        request.set_authority(Some(authority)).map_err(|()| "bad host")?;
        request.set_path_with_query(Some(path)).map_err(|()| "bad path")?;
        request.set_method(&method(&input.method)).map_err(|()| "bad method")?;
        let body = match input.send {
            Some(_) => Some(request.body().map_err(|()| "no body")?),
            None => None,
        };
        let future = handle(request, None).map_err(|code| format!("{code:?}"))?;
        if let (Some(body), Some(length)) = (body, input.send) {
            write(body, length)?;
        }
        future.subscribe().block();
        let response = future.get().ok_or("not ready")?.map_err(|()| "taken twice")?;
        let response = response.map_err(|code| format!("{code:?}"))?;
        let mut exchanged = Exchanged {
            status: response.status(),
            headers: texts(&response.headers()),
            ..Exchanged::default()
        };
        if !input.unread {
            read(&response, &mut exchanged)?;
        }
        Ok(exchanged)
    }

    fn write(body: OutgoingBody, length: usize) -> Result<(), String> {
        let stream = body.write().map_err(|()| "no stream")?;
        let piece = [b'x'; PIECE];
        let mut left = length;
        while left > 0 {
            let now = left.min(PIECE);
            stream.blocking_write_and_flush(&piece[..now]).map_err(|error| format!("write: {error:?}"))?;
            left -= now;
        }
        // As libraries do that aren't sure of what they wrote.
        stream.blocking_flush().map_err(|error| format!("flush: {error:?}"))?;
        drop(stream);
        OutgoingBody::finish(body, None).map_err(|code| format!("finish: {code:?}"))
    }

    fn read(response: &IncomingResponse, into: &mut Exchanged) -> Result<(), String> {
        let body = response.consume().map_err(|()| "no body")?;
        let stream = body.stream().map_err(|()| "no stream")?;
        let mut shown = Vec::new();
        loop {
            match stream.blocking_read(65536) {
                Ok(piece) => {
                    into.received += piece.len();
                    shown.extend(piece.iter().take(SHOWN - shown.len()));
                }
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(error)) => {
                    let code = wasip2::http::types::http_error_code(&error);
                    return Err(format!("after {} bytes: {code:?}", into.received));
                }
            }
        }
        drop(stream);
        into.body = String::from_utf8_lossy(&shown).into_owned();
        let trailers = IncomingBody::finish(body);
        trailers.subscribe().block();
        let trailers = trailers.get().ok_or("not ready")?.map_err(|()| "taken twice")?;
        if let Some(trailers) = trailers.map_err(|code| format!("{code:?}"))? {
            into.trailers = texts(&trailers);
        }
        Ok(())
    }

    fn texts(fields: &Fields) -> Vec<(String, String)> {
        let text = |(name, value): (String, Vec<u8>)| (name, String::from_utf8_lossy(&value).into_owned());
        fields.entries().into_iter().map(text).collect()
    }

    fn method(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "PATCH" => Method::Patch,
            other => Method::Other(other.to_owned()),
        }
    }
}

/// Outside of a sandbox there is no such interface.
#[cfg(not(target_family = "wasm"))]
mod http {
    pub(super) fn send(_: &super::Exchange) -> Result<super::Exchanged, String> {
        Err("there are no requests outside of a sandbox".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_sandbox_nothing_is_exchanged() {
        let input: Exchange =
            serde_json::from_str(r#"{"url": "http://localhost"}"#).expect("all else is usual");
        assert!(exchange(input).is_err());
    }
}
