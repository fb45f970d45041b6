//! HTTP requests of a component, through wasi:http. Only a component that sends some imports it.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
    http_error_code,
};
use wasip2::io::streams::StreamError;

use crate::http::{HttpError, Request, Response};

/// Maximum numbers of bytes that are written and read at once.
const PIECE: usize = 4096;
const READ: u64 = 64 << 10;

/// Sends a request, and reads the whole response.
pub(crate) fn send(request: &Request) -> Result<Response, HttpError> {
    let outgoing = outgoing(request)?;
    let body = outgoing.body().map_err(|()| failed("its body can't be had"))?;
    let future = handle(outgoing, None).map_err(of_code)?;
    write(body, &request.body)?;
    future.subscribe().block();
    let response = future.get().ok_or_else(|| failed("no response"))?;
    let response = response.map_err(|()| failed("its response was taken"))?.map_err(of_code)?;
    read(&response)
}

fn outgoing(request: &Request) -> Result<OutgoingRequest, HttpError> {
    let parts = request.parts()?;
    let invalid = |what: &str| HttpError::Invalid(format!("{what} is malformed"));
    let headers: Vec<(String, Vec<u8>)> =
        request.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
    let fields = Fields::from_list(&headers).map_err(|_| invalid("a header"))?;
    let outgoing = OutgoingRequest::new(fields);
    outgoing.set_method(&method(&request.method)).map_err(|()| invalid("the method"))?;
    let scheme = if parts.https { Scheme::Https } else { Scheme::Http };
    outgoing.set_scheme(Some(&scheme)).map_err(|()| invalid("the URL"))?;
    outgoing.set_authority(Some(parts.authority)).map_err(|()| invalid("the host"))?;
    outgoing.set_path_with_query(Some(&parts.path)).map_err(|()| invalid("the path"))?;
    Ok(outgoing)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), HttpError> {
    let stream = body.write().map_err(|()| failed("its body can't be written"))?;
    for piece in bytes.chunks(PIECE) {
        match stream.blocking_write_and_flush(piece) {
            Ok(()) => {}
            // A server that has heard enough answers early: the response tells why.
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(http_error_code(&error).map_or_else(|| failed("its body can't be sent"), of_code));
            }
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(of_code)
}

fn read(response: &IncomingResponse) -> Result<Response, HttpError> {
    let status = response.status();
    let headers = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let body = response.consume().map_err(|()| failed("its response has no body"))?;
    Ok(Response { status, headers, body: read_all(&body)? })
}

fn read_all(body: &IncomingBody) -> Result<Vec<u8>, HttpError> {
    let stream = body.stream().map_err(|()| failed("its response has no body"))?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(
                    http_error_code(&error).map_or_else(|| failed("the response ends early"), of_code)
                );
            }
        }
    }
}

fn of_code(code: ErrorCode) -> HttpError {
    match code {
        ErrorCode::HttpRequestDenied => HttpError::NotGranted(
            "HttpRequestDenied: its host is not granted; the job's log says which line to add".to_owned(),
        ),
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestMethodInvalid => {
            HttpError::Invalid(format!("{code:?}"))
        }
        code => failed(format!("{code:?}")),
    }
}

fn failed(why: impl Into<String>) -> HttpError {
    HttpError::Failed(why.into())
}
