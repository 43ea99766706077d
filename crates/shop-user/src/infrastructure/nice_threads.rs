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

/// How much threads stand back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// Only while a core has nothing else to do: an ordinary thread that wakes takes the core from them at once, which no
    /// nice value brings about (`SCHED_IDLE`).
    Idle,
    /// A tenth of what an ordinary thread gets where both want a core, all of it where nobody else does.
    Low,
}

/// What [`Priority::Low`] is.
const NICE: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads that stand back. The last clone ends them.
#[derive(Debug, Clone)]
pub(super) struct NiceThreads {
    jobs: mpsc::Sender<Job>,
}

impl NiceThreads {
    /// So many of them.
    pub(super) fn start(count: usize, priority: Priority) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count {
            let queue = queue.clone();
            thread::Builder::new().name("passwords".into()).spawn(move || work(&queue, priority))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on one of them, after those that came before.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        // They end after the last sender only.
        let _ = self.jobs.send(Box::new(job));
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, priority: Priority) {
    if let Err(error) = stand_back(priority) {
        tracing::warn!(error, "passwords are checked at ordinary priority");
    }
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
fn stand_back(priority: Priority) -> Result<(), String> {
    use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, unix};
    match priority {
        Priority::Idle => {
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            unix::set_thread_priority_and_policy(unix::thread_native_id(), ThreadPriority::Min, idle).map_err(|e| e.to_string())
        }
        Priority::Low => rustix::process::setpriority_process(None, NICE).map_err(|e| e.to_string()),
    }
}

#[cfg(not(target_os = "linux"))]
fn stand_back(_: Priority) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// What a job on such a thread finds, after one that panicked.
    fn found<T: Send + 'static>(priority: Priority, look: fn() -> T) -> T {
        let threads = NiceThreads::start(1, priority).unwrap();
        threads.run(|| panic!("on purpose"));
        let (tell, told) = channel();
        threads.run(move || tell.send(look()).unwrap());
        told.recv_timeout(std::time::Duration::from_secs(10)).unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn they_stand_back_and_a_panic_costs_no_thread() {
        use thread_priority::{NormalThreadSchedulePolicy as Policy, ThreadSchedulePolicy::Normal, unix::thread_schedule_policy};
        assert_eq!(found(Priority::Idle, thread_schedule_policy), Ok(Normal(Policy::Idle)));
        assert_eq!(found(Priority::Low, thread_schedule_policy), Ok(Normal(Policy::Other)));
        assert_eq!(found(Priority::Low, || rustix::process::getpriority_process(None)), Ok(NICE));
        assert_eq!(thread_schedule_policy(), Ok(Normal(Policy::Other)), "this thread is as it was");
    }
}
