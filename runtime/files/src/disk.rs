//! Calls of the file system that come to an end: a disk that doesn't answer, such as one on a network whose server is gone,
//! is given up after a while.
//!
//! Nothing stops a system call that hangs so, and the thread that makes it hangs with it. So each is made by a thread of its
//! own, which is left behind if no answer comes. While that hangs, nothing else is asked of the same folder: it costs whoever
//! asks its deadline once, and holds no more threads than asked at once.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum time for which a disk is waited for without any progress.
pub const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Maximum number of folders that are asked about at once by one caller.
const AT_ONCE: usize = 16;

/// Maximum number of threads that wait for the next call. Others end.
const IDLE_MAX: usize = AT_ONCE;

/// Progress of calls that take several steps, such as reading a large file: each step starts the wait anew.
#[derive(Debug, Clone)]
pub struct Progress {
    begun: Instant,
    /// Time of the latest step, in milliseconds since the beginning.
    latest: Arc<AtomicU64>,
}

impl Progress {
    fn begin() -> Self {
        Self { begun: Instant::now(), latest: Arc::default() }
    }

    /// Records a step.
    pub fn step(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.latest.store(now, Ordering::Relaxed);
    }

    /// Time since the latest step.
    fn idle(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.latest.load(Ordering::Relaxed)))
    }
}

/// Makes calls about what lies in a folder, and waits for their end. Blocks, for [`ANSWER_MAX`] after the latest progress
/// at most.
///
/// # Errors
/// That of `calls`; [`io::ErrorKind::TimedOut`] if they take too long, or if others about the folder hang.
pub fn ask<T: Send + 'static>(
    folder: &Path,
    calls: impl FnOnce(&Progress) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    begin(folder, calls)?.answer(ANSWER_MAX)
}

/// Makes calls about what lies in each of several folders, some of them at once, and waits for their ends. Returns their
/// answers in the same order, each as [`ask`] would.
pub fn ask_each<T, C>(asks: impl IntoIterator<Item = (PathBuf, C)>) -> Vec<io::Result<T>>
where
    T: Send + 'static,
    C: FnOnce(&Progress) -> io::Result<T> + Send + 'static,
{
    let mut asks = asks.into_iter();
    let mut answers = Vec::new();
    loop {
        let begun: Vec<_> =
            asks.by_ref().take(AT_ONCE).map(|(folder, calls)| begin(&folder, calls)).collect();
        if begun.is_empty() {
            return answers;
        }
        answers.extend(begun.into_iter().map(|begun| begun?.answer(ANSWER_MAX)));
    }
}

/// Calls that are under way.
struct UnderWay<T> {
    call: Arc<Call<T>>,
    worker: Worker,
    folder: PathBuf,
    progress: Progress,
}

fn begin<T: Send + 'static>(
    folder: &Path,
    calls: impl FnOnce(&Progress) -> io::Result<T> + Send + 'static,
) -> io::Result<UnderWay<T>> {
    if lock(&HANGING).contains_key(folder) {
        return Err(no_answer("its disk still doesn't answer"));
    }
    let worker = lock(&IDLE).pop().map_or_else(Worker::start, Ok)?;
    let call = Arc::new(Call { state: Mutex::new(State::UnderWay), ended: Condvar::new() });
    let (progress, asked, about) = (Progress::begin(), Arc::clone(&call), folder.to_owned());
    let made = progress.clone();
    let work = Box::new(move || asked.end(&about, catch_unwind(AssertUnwindSafe(|| calls(&made)))));
    // A thread that waits for work ends only with this sender.
    worker.0.send(work).map_err(|ended| io::Error::other(ended.to_string()))?;
    Ok(UnderWay { call, worker, folder: folder.to_owned(), progress })
}

impl<T> UnderWay<T> {
    fn answer(self, max: Duration) -> io::Result<T> {
        let Self { call, worker, folder, progress } = self;
        match call.wait(max, &folder, &progress) {
            Some(answer) => {
                let mut idle = lock(&IDLE);
                if idle.len() < IDLE_MAX {
                    idle.push(worker);
                }
                drop(idle);
                answer.unwrap_or_else(|panic| resume_unwind(panic))
            }
            None => Err(no_answer(&format!("its disk doesn't answer: nothing came of it for {max:?}"))),
        }
    }
}

/// Folder that a path lies in, of which is asked what is asked about the path.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn no_answer(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Number of calls that hang, by folder.
static HANGING: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// Threads that wait for the next call.
static IDLE: Mutex<Vec<Worker>> = Mutex::new(Vec::new());

type Work = Box<dyn FnOnce() + Send>;

/// Thread that makes one call after the other. It ends once it is dropped and its call has ended.
struct Worker(Sender<Work>);

impl Worker {
    fn start() -> io::Result<Self> {
        let (sender, receiver) = channel::<Work>();
        let make_calls = move || receiver.into_iter().for_each(|work| work());
        thread::Builder::new().name("sandhog-disk".to_owned()).spawn(make_calls)?;
        Ok(Self(sender))
    }
}

/// Call that one thread makes and another waits for.
struct Call<T> {
    state: Mutex<State<T>>,
    ended: Condvar,
}

enum State<T> {
    UnderWay,
    Ended(thread::Result<io::Result<T>>),
    /// Nobody waits for it any more.
    GivenUp,
}

impl<T> Call<T> {
    /// Records the end of the call.
    fn end(&self, folder: &Path, answer: thread::Result<io::Result<T>>) {
        let mut state = lock(&self.state);
        match *state {
            State::UnderWay => *state = State::Ended(answer),
            State::GivenUp | State::Ended(_) => answers_again(folder),
        }
        self.ended.notify_one();
    }

    /// Waits for the end of the call. `None` if it takes too long: then it counts as hanging until it ends.
    fn wait(
        &self,
        max: Duration,
        folder: &Path,
        progress: &Progress,
    ) -> Option<thread::Result<io::Result<T>>> {
        let mut state = lock(&self.state);
        loop {
            if let State::Ended(answer) = std::mem::replace(&mut *state, State::UnderWay) {
                return Some(answer);
            }
            let left = max.saturating_sub(progress.idle());
            if left.is_zero() {
                *state = State::GivenUp;
                *lock(&HANGING).entry(folder.to_owned()).or_default() += 1;
                return None;
            }
            (state, _) = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Records that a call about a folder that hung has ended.
fn answers_again(folder: &Path) {
    let mut hanging = lock(&HANGING);
    if let Some(calls) = hanging.get_mut(folder) {
        *calls -= 1;
        if *calls == 0 {
            hanging.remove(folder);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc::sync_channel;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    fn ask_within<T: Send + 'static>(
        max: Duration,
        folder: &Path,
        calls: impl FnOnce(&Progress) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        begin(folder, calls)?.answer(max)
    }

    fn is_hanging(folder: &Path) -> bool {
        lock(&HANGING).contains_key(folder)
    }

    #[test]
    fn an_answer_is_given_whatever_it_is() {
        let folder = Path::new("/answers");
        assert_eq!(ask_within(LONG, folder, |_| Ok(1)).expect("it answers"), 1);
        let refused = ask_within(LONG, folder, |_| Err::<(), _>(io::ErrorKind::NotFound.into()));
        assert_eq!(refused.expect_err("it is none").kind(), io::ErrorKind::NotFound);
        let panicked =
            catch_unwind(|| ask_within(LONG, folder, |_| -> io::Result<()> { panic!("a mistake") }));
        assert!(panicked.is_err() && !is_hanging(folder));
    }

    #[test]
    fn a_disk_that_hangs_is_given_up_and_not_asked_again_until_it_answers() {
        let folder = Path::new("/hangs");
        let (answer, answers) = sync_channel::<()>(1);
        let hung = ask_within(SHORT, folder, move |_| answers.recv().map_err(io::Error::other));
        assert_eq!(hung.expect_err("nothing came").kind(), io::ErrorKind::TimedOut);
        let again = ask_within(LONG, folder, |_| -> io::Result<()> { unreachable!("it isn't asked") });
        assert_eq!(again.expect_err("it hangs").to_string(), "its disk still doesn't answer");
        assert_eq!(ask_within(LONG, Path::new("/beside"), |_| Ok(2)).expect("another folder"), 2);
        answer.send(()).expect("it waits for this");
        while is_hanging(folder) {
            thread::yield_now();
        }
        assert_eq!(ask_within(LONG, folder, |_| Ok(3)).expect("it answers again"), 3);
    }

    #[test]
    fn several_folders_are_asked_at_once_and_answered_in_order() {
        // Nobody goes on before all of a round have come.
        let round = Arc::new(Barrier::new(AT_ONCE));
        let asks = (0..2 * AT_ONCE).map(|n| {
            let round = Arc::clone(&round);
            let calls = move |_: &Progress| {
                round.wait();
                Ok(n)
            };
            (PathBuf::from(format!("/several/{n}")), calls)
        });
        let answers: io::Result<Vec<usize>> = ask_each(asks).into_iter().collect();
        assert_eq!(answers.expect("all answer"), (0..2 * AT_ONCE).collect::<Vec<_>>());
    }

    #[test]
    fn a_disk_that_is_slow_is_waited_for_as_long_as_something_comes() {
        let max = Duration::from_millis(500);
        let slow = ask_within(max, Path::new("/slow"), move |progress| {
            let begun = Instant::now();
            while begun.elapsed() < 3 * max {
                progress.step();
                thread::yield_now();
            }
            Ok(3)
        });
        assert_eq!(slow.expect("something came all the time"), 3);
    }
}
