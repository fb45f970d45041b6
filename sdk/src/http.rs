//! HTTP requests to hosts that the operator granted.

use std::fmt;

use crate::codec::{Decode, Encode, InvalidJson};
use crate::context::Context;
use crate::host::HostCalls;

/// An HTTP request: `Request::get("https://api.example/prices").header("accept", "application/json")`.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    /// Method, such as `GET`.
    pub method: String,
    /// URL: `http://` or `https://`, host, port, path and query.
    pub url: String,
    /// Names and values of headers, in the order in which they were given.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Response to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status, such as 200.
    pub status: u16,
    /// Names of headers, in lower case, and their values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Reason why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The URL, the method or a header is malformed; the text says which rule it breaks.
    #[error("send a request: {0}")]
    Invalid(String),
    /// The plugin's TOML doesn't grant the host; the job's log has the line to add.
    #[error("send a request: {0}")]
    NotGranted(String),
    /// There was no connection, no answer in time, or an answer that isn't HTTP. Trying again may help.
    #[error("send a request: {0}")]
    Failed(String),
}

impl Context {
    /// Sends a request, and waits for the whole response, whatever its status; a redirect is returned and not followed.
    ///
    /// A request is sent at once, and not when the job succeeds: pass [`idempotency_key`](Self::idempotency_key) on, so
    /// that the other side can recognise a repetition. Under a [`FakeHost`](crate::FakeHost) it gets the replies of the
    /// test.
    ///
    /// ```
    /// # use sandhog_sdk::{Request, prelude::*};
    /// # fn f(ctx: &Context) -> Result<()> {
    /// let token = ctx.secret("API_TOKEN")?;
    /// let request = Request::get("https://api.example/prices").header("authorization", token.expose());
    /// let response = ctx.http(&request)?;
    /// if response.status != 200 {
    ///     return Err(transient(format_args!("the prices are not to be had: {}", response.status)));
    /// }
    /// let prices: Vec<f64> = response.json()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the request is malformed, its host isn't granted, or there is no response.
    pub fn http(&self, request: &Request) -> Result<Response, HttpError> {
        self.host().http(request)
    }
}

impl Request {
    /// Creates a request without headers and body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// Creates a `GET` request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Creates a `POST` request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sets the body to a value's JSON, and the `content-type` header accordingly.
    ///
    /// # Errors
    /// If the value has no JSON form.
    pub fn json(self, value: &(impl Encode + ?Sized)) -> Result<Self, InvalidJson> {
        let body = value.encode()?.into_owned();
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Returns the parts of the URL.
    pub(crate) fn parts(&self) -> Result<Parts<'_>, HttpError> {
        let invalid =
            || HttpError::Invalid("a URL is `http://` or `https://`, a host, and a path".to_owned());
        let (scheme, rest) = self.url.split_once("://").ok_or_else(invalid)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(invalid()),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if authority.is_empty() || authority.contains(['@', ' ']) {
            return Err(invalid());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Parts { https, authority, path })
    }
}

/// A URL in parts.
#[derive(Debug)]
pub(crate) struct Parts<'u> {
    #[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "the fake host compares whole URLs"))]
    pub(crate) https: bool,
    #[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "the fake host compares whole URLs"))]
    pub(crate) authority: &'u str,
    #[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "the fake host compares whole URLs"))]
    pub(crate) path: String,
}

impl Response {
    /// Returns the first value of a header, whose name is compared without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the body as text; what isn't UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Decodes the body as JSON of this type.
    ///
    /// # Errors
    /// If it isn't JSON of this type.
    pub fn json<T: Decode>(&self) -> Result<T, InvalidJson> {
        T::decode(self.body.clone())
    }
}

// `Debug` hides most of a request: headers have tokens, and bodies and queries are confidential.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        write!(f, "Request({} {url}, {} headers, {} bytes)", self.method, self.headers.len(), self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_its_parts() {
        let parts = |url: &str| {
            let request = Request::get(url);
            request.parts().map(|parts| (parts.https, parts.authority.to_owned(), parts.path))
        };
        let of = |https, authority: &str, path: &str| Ok((https, authority.to_owned(), path.to_owned()));
        assert_eq!(parts("https://a.example"), of(true, "a.example", "/"));
        assert_eq!(parts("HTTP://a.example:80/b/c?d=/#e"), of(false, "a.example:80", "/b/c?d=/"));
        assert_eq!(parts("https://[::1]:8080?q"), of(true, "[::1]:8080", "/?q"));
        for wrong in
            ["", "a.example/b", "ftp://a.example", "https://", "https:///b", "https://user@a.example/"]
        {
            assert!(matches!(parts(wrong), Err(HttpError::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn a_request_shows_nothing_that_may_be_secret() {
        let request = Request::post("https://a.example/b?key=hunter2")
            .header("authorization", "hunter2")
            .body("hunter2");
        assert_eq!(format!("{request:?}"), "Request(POST https://a.example/b, 1 headers, 7 bytes)");
    }
}
