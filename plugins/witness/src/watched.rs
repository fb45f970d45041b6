//! The request by which a run shows that it is under way.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingBody, IncomingResponse, OutgoingRequest, Scheme};
use wasip2::io::streams::{InputStream, StreamError};

/// A request whose answer isn't over. The fields go in this order: each is part of the next.
pub(crate) struct Watched {
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
}

impl Watched {
    /// Asks `host:port/name` for a path, and returns the first line of the answer.
    pub(crate) fn begin(place: &str, path: &str) -> Result<(String, Self), String> {
        let (authority, name) = place.split_once('/').ok_or("the place has no name")?;
        let request = OutgoingRequest::new(Fields::new());
        request.set_scheme(Some(&Scheme::Http)).map_err(|()| "bad scheme")?;
        request.set_authority(Some(authority)).map_err(|()| "bad host")?;
        request.set_path_with_query(Some(&format!("/{name}/{path}"))).map_err(|()| "bad path")?;
        let answer = handle(request, None).map_err(|code| format!("{code:?}"))?;
        answer.subscribe().block();
        let response = answer.get().ok_or("not ready")?.map_err(|()| "taken twice")?;
        let response = response.map_err(|code| format!("{code:?}"))?;
        let body = response.consume().map_err(|()| "no body")?;
        let stream = body.stream().map_err(|()| "no stream")?;
        let watched = Self { stream, _body: body, _response: response };
        let mut line = Vec::new();
        while !line.contains(&b'\n') {
            line.extend(watched.more()?.ok_or("the answer ended in its first line")?);
        }
        // What comes after it may have come with it.
        let first = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Ok((String::from_utf8_lossy(first).into_owned(), watched))
    }

    /// Waits for the end of the answer.
    pub(crate) fn end(self) -> Result<(), String> {
        while self.more()?.is_some() {}
        Ok(())
    }

    fn more(&self) -> Result<Option<Vec<u8>>, String> {
        match self.stream.blocking_read(1024) {
            Ok(piece) => Ok(Some(piece)),
            Err(StreamError::Closed) => Ok(None),
            Err(StreamError::LastOperationFailed(error)) => Err(error.to_debug_string()),
        }
    }
}
