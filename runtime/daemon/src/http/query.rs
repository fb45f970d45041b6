//! The part of a request behind the question mark.

use std::fmt::Display;

use axum::extract::FromRequestParts;
use hyper::http::request::Parts;
use sandhog_api::{Problem, Slug};
use url::form_urlencoded;

use super::router::Refused;

/// Parameters of a request that weren't asked for yet.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Query {
    /// Takes all values of a parameter.
    pub(super) fn all<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Problem> {
        let mut values = Vec::new();
        self.0.retain(|(key, value)| {
            let is_meant = key == name;
            if is_meant {
                values.push(value.clone());
            }
            !is_meant
        });
        let refuse =
            |error: E| Problem::new(Slug::MalformedRequest, format!("the parameter `{name}`: {error}"));
        values.iter().map(|value| parse(value).map_err(refuse)).collect()
    }

    /// Takes the value of a parameter that may be there once.
    pub(super) fn take<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let mut values = self.all(name, parse)?;
        let value = values.pop();
        match values.is_empty() {
            true => Ok(value),
            false => {
                Err(Problem::new(Slug::MalformedRequest, format!("the parameter `{name}` is there twice")))
            }
        }
    }

    /// Takes a parameter that is true or false; false if it isn't there.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        Ok(self.take(name, str::parse::<bool>)?.unwrap_or(false))
    }

    /// Checks that there are no other parameters.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(80).collect();
                Err(Problem::new(Slug::MalformedRequest, format!("there is no parameter `{name}` here")))
            }
        }
    }
}
