//! Limits on the resources that a run may hold: handles of streams, files, timers, requests and the like.
//!
//! Toolchains release late what they have used, or never: the JavaScript engine keeps one handle for each piece of a body
//! that it reads, and some for each request. So many are allowed, and more if a run may receive more; most of them are
//! small. Resources that a guest can have the host fill are limited to a few, whatever the others:
//!
//! | resource | what a guest puts there |
//! |---|---|
//! | sets of header fields, requests that weren't sent | fields, and two pieces of a body |
//! | streams of files | a piece of a file |
//! | listings of directories | all names of the directory |

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use hyper::HeaderMap;
use sandhog_core::budget::{Budget, Bytes};
use sandhog_core::host_memory::{
    BODY, BYTES_A_HANDLE, FILE_STREAMS_MAX, HANDLES_MIN, HTTP_MAX, LISTINGS_MAX,
};
use wasmtime::component::{Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll::Host as _;
use wasmtime_wasi_http::p2::HeaderResult;
use wasmtime_wasi_http::p2::bindings::http::types::{self, HeaderError, HostFields};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use crate::imports::RunState;

/// Size that is counted for a set of header fields, and for each field, beside their text, in bytes.
const FIELDS: u64 = 256;
const FIELD: u64 = 64;

/// Fuel that each resource costs that had to be looked at to count them.
const SEEN_FUEL: u64 = 20;

/// Maximum number of directory listings at once: one for each level of a tree that is being walked.
const LISTED_AT_ONCE: usize = 32;

/// Size that is counted for an entry of a listing beside its name, in bytes.
pub(super) const LISTED_ENTRY: u64 = 64;

/// Maximum number of resources that one call may wait for, and the fuel that each costs: all of them are looked at without a
/// pause.
const POLLED_MAX: usize = 4096;
const POLL_FUEL: u64 = 200;

/// Returns the maximum number of handles that a run may hold.
pub(super) fn handles_max(budget: &Budget) -> usize {
    usize::try_from(budget.handles_max()).unwrap_or(usize::MAX)
}

/// Returns the maximum number of handles of a run, each counted once more for as long as a call has it on loan: so a run that
/// holds as many as it may can still use them, and whatever ends it is that it wanted another one.
pub(crate) fn handles_and_loans_max(budget: &Budget) -> usize {
    handles_max(budget).saturating_add(POLLED_MAX)
}

/// Explains the end of a run that would have held more handles than it may.
pub(crate) fn explain_full(budget: &Budget) -> String {
    let (max, bytes) = (handles_max(budget), budget.http_bytes);
    format!(
        "it holds {max} handles of streams, timers, requests and the like, and no more can be: give back what isn't needed any more; a run may hold {HANDLES_MIN}, and one more for each {BYTES_A_HANDLE} of limits.http_bytes, which is {bytes}"
    )
}

/// Count of the resources of some kind that a run holds. What the guest gives back is noticed only when they seem to be too
/// many.
#[derive(Debug, Default)]
pub(super) struct ResourceCount {
    at_most: u64,
}

/// Error for a run that holds too many resources of some kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest holds {max} {kind}, and no more can be")]
pub(super) struct TooMany {
    max: u64,
    kind: &'static str,
}

impl ResourceCount {
    /// Adds `more` to the count; if that seems to be more than `max`, counts what is in the table. Returns how many
    /// resources were looked at for that.
    fn add(
        &mut self,
        more: u64,
        (max, kind): (u64, &'static str),
        table: &mut ResourceTable,
        weigh: impl Fn(&dyn Any) -> u64,
    ) -> Result<u64, TooMany> {
        let mut seen = 0;
        self.at_most = self.at_most.saturating_add(more);
        if self.at_most > max {
            self.at_most = table.iter_mut().inspect(|_| seen += 1).map(|resource| weigh(&*resource)).sum();
        }
        if self.at_most > max { Err(TooMany { max, kind }) } else { Ok(seen) }
    }
}

/// Directory listings that a run holds, by their handles, each with the host's memory that its entries take.
#[derive(Debug, Default)]
pub(super) struct Listings(HashMap<u32, Bytes>);

impl Listings {
    /// Adds a listing, until it is removed.
    pub(super) fn add(&mut self, handle: u32, entries: Bytes) -> Result<(), TooMany> {
        if self.0.len() >= LISTED_AT_ONCE {
            return Err(TooMany { max: LISTED_AT_ONCE as u64, kind: "listings of directories" });
        }
        let held = self.0.values().map(|entries| entries.0).sum::<u64>();
        if held.saturating_add(entries.0) > LISTINGS_MAX.0 {
            return Err(TooMany { max: LISTINGS_MAX.0, kind: "bytes of entries in listings of directories" });
        }
        self.0.insert(handle, entries);
        Ok(())
    }

    /// Removes a listing that was given back.
    pub(super) fn remove(&mut self, handle: u32) {
        self.0.remove(&handle);
    }
}

/// Count of the file streams that a run has: each holds a clone.
#[derive(Debug, Clone, Default)]
pub(super) struct FileStreams(Arc<()>);

impl FileStreams {
    /// Adds a file stream, until what is returned is dropped.
    pub(super) fn add(&self) -> Result<Self, TooMany> {
        if Arc::strong_count(&self.0) as u64 > FILE_STREAMS_MAX {
            return Err(TooMany { max: FILE_STREAMS_MAX, kind: "streams of files" });
        }
        Ok(self.clone())
    }
}

/// Returns about what a set of fields takes of the host's memory, in bytes.
fn weight_of(fields: &HeaderMap) -> u64 {
    let each = fields.iter().map(|(name, value)| weight_of_field(name.as_str().len() + value.len()));
    FIELDS + each.sum::<u64>()
}

fn weight_of_field(length: usize) -> u64 {
    FIELD + length as u64
}

fn weight_of_http(resource: &dyn Any) -> u64 {
    if let Some(fields) = resource.downcast_ref::<FieldMap>() {
        return weight_of(fields);
    }
    let Some(request) = resource.downcast_ref::<HostOutgoingRequest>() else { return 0 };
    let body = if request.body.is_some() { BODY.0 } else { 0 };
    weight_of(&request.headers) + body
}

impl RunState {
    /// Counts `bytes` more of HTTP that the guest has the host hold.
    fn add_of_http(&mut self, bytes: u64) -> wasmtime::Result<()> {
        let Some(wasi) = self.made_wasi() else { return Ok(()) };
        let kinds = (HTTP_MAX.0, "bytes of header fields and of requests that weren't sent");
        let seen = wasi.of_http.add(bytes, kinds, &mut wasi.table, weight_of_http)?;
        // Looking at them is work, which the guest pays for.
        Ok(self.meter.take(seen.saturating_mul(SEEN_FUEL))?)
    }

    /// Returns about what a set of fields of the table takes, in bytes.
    fn weight_of_fields(&mut self, fields: &Resource<FieldMap>) -> wasmtime::Result<u64> {
        Ok(weight_of(self.http().table.get(fields)?))
    }
}

/// Converts a result that may also end the guest to the one that the guest gets.
fn of_header<T>(result: HeaderResult<T>) -> wasmtime::Result<Result<T, HeaderError>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

/// Adds to the linker the calls that make such resources, and the one that looks at many, each with its bounds.
pub(super) fn link(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    type Fields = Resource<FieldMap>;
    let mut http = linker.instance("wasi:http/types@0.2.12")?;
    http.func_wrap("[constructor]fields", |mut store, (): ()| {
        let state = store.data_mut();
        let fields = HostFields::new(&mut state.http())?;
        state.add_of_http(FIELDS)?;
        Ok((fields,))
    })?;
    http.func_wrap("[static]fields.from-list", |mut store, (entries,): (Vec<(String, Vec<u8>)>,)| {
        let state = store.data_mut();
        let fields = of_header(HostFields::from_list(&mut state.http(), entries))?;
        if let Ok(fields) = &fields {
            let weight = state.weight_of_fields(fields)?;
            state.add_of_http(weight)?;
        }
        Ok((fields,))
    })?;
    http.func_wrap("[method]fields.clone", |mut store, (fields,): (Fields,)| {
        let state = store.data_mut();
        let fields = HostFields::clone(&mut state.http(), fields)?;
        let weight = state.weight_of_fields(&fields)?;
        state.add_of_http(weight)?;
        Ok((fields,))
    })?;
    http.func_wrap(
        "[method]fields.append",
        |mut store, (fields, name, value): (Fields, String, Vec<u8>)| {
            let state = store.data_mut();
            state.add_of_http(weight_of_field(name.len() + value.len()))?;
            Ok((of_header(HostFields::append(&mut state.http(), fields, name, value))?,))
        },
    )?;
    http.func_wrap(
        "[method]fields.set",
        |mut store, (fields, name, values): (Fields, String, Vec<Vec<u8>>)| {
            let state = store.data_mut();
            let weight = values.iter().map(|value| weight_of_field(name.len() + value.len())).sum();
            state.add_of_http(weight)?;
            Ok((of_header(HostFields::set(&mut state.http(), fields, name, values))?,))
        },
    )?;
    http.func_wrap(
        "[method]outgoing-request.body",
        |mut store, (request,): (Resource<HostOutgoingRequest>,)| {
            let state = store.data_mut();
            let body = types::HostOutgoingRequest::body(&mut state.http(), request)?;
            state.add_of_http(BODY.0)?;
            Ok((body,))
        },
    )?;
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    poll.func_wrap_async("poll", |mut store, (pollables,): (Vec<Resource<DynPollable>>,)| {
        Box::new(async move {
            let state = store.data_mut();
            if pollables.len() > POLLED_MAX {
                let many = pollables.len();
                return Err(wasmtime::format_err!("waits for {many} at once; {POLLED_MAX} are the most"));
            }
            state.meter.take(POLL_FUEL * pollables.len() as u64)?;
            Ok((state.ctx().table.poll(pollables).await?,))
        })
    })
}

/// Whether a guest was ended because it would have held more handles than it may.
pub(crate) fn is_full(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(ResourceTableError::Full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_not_held() {
        let (mut held, mut table) = (ResourceCount::default(), ResourceTable::new());
        let add = |held: &mut ResourceCount, table: &mut ResourceTable| {
            held.add(1, (3, "things"), table, |resource| u64::from(resource.is::<u8>()))
        };
        for _ in 0..100 {
            let things: Vec<_> = (0..3).map(|n: u8| table.push(n).expect("there is room")).collect();
            table.push("something else").expect("there is room");
            for _ in &things {
                assert!(add(&mut held, &mut table).is_ok());
            }
            for thing in things {
                table.delete(thing).expect("it is there");
            }
        }
        let _four: Vec<_> = (0..4).map(|n: u8| table.push(n).expect("there is room")).collect();
        let added: Vec<_> = (0..4).map(|_| add(&mut held, &mut table).is_ok()).collect();
        assert_eq!(added.last(), Some(&false));
    }

    #[test]
    fn listings_are_counted_and_weighed_until_they_are_given_back() {
        let mut listings = Listings::default();
        for n in 0..LISTED_AT_ONCE as u32 {
            listings.add(n, Bytes(1)).expect("there is room");
        }
        assert!(listings.add(99, Bytes(1)).is_err(), "they are too many");
        listings.remove(0);
        assert!(listings.add(99, LISTINGS_MAX).is_err(), "they are too large together");
        (1..LISTED_AT_ONCE as u32).for_each(|n| listings.remove(n));
        assert!(listings.add(99, LISTINGS_MAX).is_ok());
    }

    #[test]
    fn streams_of_files_are_counted_as_long_as_they_live() {
        let streams = FileStreams::default();
        let all: Vec<_> = (0..FILE_STREAMS_MAX).map(|_| streams.add().expect("there is room")).collect();
        assert!(streams.add().is_err());
        drop(all);
        assert!(streams.add().is_ok());
    }
}
