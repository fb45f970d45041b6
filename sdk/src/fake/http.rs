//! HTTP of a fake host: a table of replies.

use std::cell::Cell;
use std::rc::Rc;

use crate::codec::Encode;
use crate::http::{HttpError, Request, Response};

/// A reply of a [`FakeHost`](crate::FakeHost): `HttpReply::status(201).body("done")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpReply(Result<Response, String>);

impl HttpReply {
    /// Creates a response without headers and body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self(Ok(Response { status, headers: Vec::new(), body: Vec::new() }))
    }

    /// Creates a response of status 200 whose body is a value's JSON.
    ///
    /// # Panics
    /// If the value has no JSON form.
    #[must_use]
    pub fn json(value: &(impl Encode + ?Sized)) -> Self {
        let body = value.encode().expect("a reply has a JSON form").into_owned();
        Self::status(200).header("content-type", "application/json").body(body)
    }

    /// Creates a reply without a response: the request fails for this reason.
    #[must_use]
    pub fn error(why: impl Into<String>) -> Self {
        Self(Err(why.into()))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Ok(response) = &mut self.0 {
            response.headers.push((name.to_ascii_lowercase(), value.into()));
        }
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        if let Ok(response) = &mut self.0 {
            response.body = body.into();
        }
        self
    }
}

/// Replies by method and URL.
#[derive(Debug, Clone, Default)]
pub(super) struct HttpTable(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    method: String,
    url: String,
    replies: Vec<HttpReply>,
    /// Number of the next reply to give out, shared by the runs of a host.
    used: Rc<Cell<usize>>,
}

impl HttpTable {
    /// Adds a reply; a further one for the same request is given out after those before.
    pub(super) fn add(&mut self, request: &str, reply: HttpReply) {
        let (method, url) = request
            .split_once(' ')
            .filter(|(_, url)| !url.contains(' '))
            .unwrap_or_else(|| panic!("a request of the fake host is `METHOD URL`, not `{request}`"));
        match self.0.iter_mut().find(|entry| entry.method == method && entry.url == url) {
            Some(entry) => entry.replies.push(reply),
            None => self.0.push(Entry {
                method: method.to_owned(),
                url: url.to_owned(),
                replies: vec![reply],
                used: Rc::default(),
            }),
        }
    }

    /// Returns the reply to a request: the one for this very URL, or else for its longest beginning.
    pub(super) fn reply(&self, request: &Request) -> Result<Response, HttpError> {
        request.parts()?;
        let fitting = self.0.iter().filter(|entry| entry.fits(request));
        let Some(entry) = fitting.max_by_key(|entry| entry.rank()) else {
            let (method, url) = (&request.method, &request.url);
            let problem = format!("the fake host has no reply to {method} {url}: add it by `http`");
            return Err(HttpError::NotGranted(problem));
        };
        let turn = entry.used.get().min(entry.replies.len() - 1);
        entry.used.set(turn + 1);
        entry.replies[turn].0.clone().map_err(HttpError::Failed)
    }
}

impl Entry {
    fn fits(&self, request: &Request) -> bool {
        let is_url = match self.url.strip_suffix('*') {
            Some(beginning) => request.url.starts_with(beginning),
            None => request.url == self.url,
        };
        is_url && (self.method == "*" || self.method == request.method)
    }

    fn rank(&self) -> (bool, usize, bool) {
        (!self.url.ends_with('*'), self.url.len(), self.method != "*")
    }
}
