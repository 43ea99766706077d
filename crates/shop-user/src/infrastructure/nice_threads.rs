//! Threads for work that must not be in anybody's way.
//!
//! The runtime's own blocking pool will not do: its threads serve everybody, and a thread whose priority was lowered
//! keeps it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

/// Nice value of the threads. At 10 a thread gets a tenth of what an ordinary one gets where both want a core, and all of
/// it where nobody else does: a flood of log-ins takes what is left over, and still goes on on a busy machine.
const NICE: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads of low priority. The last clone ends them.
#[derive(Debug, Clone)]
pub(super) struct NiceThreads {
    jobs: mpsc::Sender<Job>,
}

impl NiceThreads {
    /// So many of them.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count {
            let queue = queue.clone();
            thread::Builder::new().name("passwords".into()).spawn(move || work(&queue))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on one of them, after those that came before.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        // They end after the last sender only.
        let _ = self.jobs.send(Box::new(job));
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>) {
    lower_priority();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a password's work panicked");
        }
    }
}

/// On Linux the priority is a thread's own.
#[cfg(target_os = "linux")]
fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "passwords are checked at ordinary priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn work_is_done_at_low_priority_and_a_panic_costs_no_thread() {
        let threads = NiceThreads::start(1).unwrap();
        threads.run(|| panic!("on purpose"));
        let (tell, told) = channel();
        threads.run(move || tell.send(rustix::process::getpriority_process(None)).unwrap());
        let nice = told.recv_timeout(std::time::Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(nice, if cfg!(target_os = "linux") { NICE } else { 0 });
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), 0, "this thread is as it was");
    }
}
