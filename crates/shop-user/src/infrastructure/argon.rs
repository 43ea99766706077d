//! Passwords by Argon2id, on half of the cores at most.
//!
//! One hash takes a core for tens of milliseconds and 19 MiB of memory, so log-ins are the cheapest way to starve a
//! machine. They run on threads that take a core only when nobody else wants it, on half of the cores, for the rest share
//! memory and caches with them; a few may wait for their turn, and the others are turned away at once: a log-in that waits
//! for seconds helps nobody, and its caller has the answer to back off.
//!
//! On a machine that is never idle such threads never get on. What is not done in time is therefore done once more on one
//! thread of low priority, and whoever is first answers: log-ins slow down then, and do not end.

use super::nice_threads::{NiceThreads, Priority};
use crate::domain::{Error, Hash, Password, Passwords};
use argon2::{
    Argon2, PasswordHasher, PasswordVerifier,
    password_hash::{self, PasswordHash, SaltString, rand_core::OsRng},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// How many may wait per thread: at about 15 ms each the last of them waits for an eighth of a second.
const WAITING_PER_THREAD: usize = 8;

/// How long the idle threads have. Twice what the last in the queue needs on a machine that has time for them.
const PATIENCE: Duration = Duration::from_millis(250);

/// Argon2id with its crate's parameters (19 MiB, 2 passes, 1 lane: the first choice of OWASP's password storage sheet).
#[derive(Debug, Clone)]
pub struct Argon {
    /// Those let in, whether at work or waiting.
    admitted: Arc<Semaphore>,
    idle: NiceThreads,
    overdue: NiceThreads,
    /// What a claim for an unknown user is checked against.
    nobody: Hash,
}

impl Argon {
    /// For so many cores. Hashes one password, so that there is something to check unknown users against.
    pub async fn new(cores: usize) -> Result<Self, Error> {
        let threads = cores.div_ceil(2).max(1);
        let start = |count, priority| NiceThreads::start(count, priority).map_err(|error| Error::Crypto(error.into()));
        let mut argon = Self {
            admitted: Arc::new(Semaphore::new(threads * (1 + WAITING_PER_THREAD))),
            idle: start(threads, Priority::Idle)?,
            overdue: start(1, Priority::Low)?,
            nobody: Hash(String::new()),
        };
        argon.nobody = argon.hash(&Password::claimed("nobody has this password".into())).await?;
        Ok(argon)
    }

    /// Runs one piece of work in its turn.
    ///
    /// The permit travels with the work: when the caller goes away the place stays taken until the work is done.
    async fn in_turn<R: Send + 'static>(&self, work: impl Fn() -> R + Clone + Send + 'static) -> Result<R, Error> {
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
        let (tell, mut told) = oneshot::channel();
        // Whoever is first answers and gives the place free; a second one that has not begun finds nothing to do.
        let asked = Arc::new(Mutex::new(Some((tell, admitted))));
        let job = move || {
            let asker = || asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asker().is_none() {
                return;
            }
            let answer = work();
            if let Some((tell, admitted)) = asker().take() {
                drop(admitted);
                // Whoever asked may be gone.
                let _ = tell.send(answer);
            }
        };
        let again = job.clone();
        self.idle.run(job);
        let answered = match timeout(PATIENCE, &mut told).await {
            Ok(answered) => answered,
            Err(_) => {
                self.overdue.run(again);
                told.await
            }
        };
        answered.map_err(|error| Error::Crypto(error.into()))
    }
}

impl Passwords for Argon {
    async fn hash(&self, password: &Password) -> Result<Hash, Error> {
        let password = password.clone();
        let hash = move || {
            let salt = SaltString::generate(&mut OsRng);
            Argon2::default().hash_password(password.as_bytes(), &salt).map(|hash| Hash(hash.to_string()))
        };
        self.in_turn(hash).await?.map_err(|error| Error::Crypto(error.into()))
    }

    async fn matches(&self, password: &Password, hash: Option<&Hash>) -> Result<bool, Error> {
        let known = hash.is_some();
        let (password, hash) = (password.clone(), hash.unwrap_or(&self.nobody).clone());
        let check = move || {
            let hash = PasswordHash::new(&hash.0)?;
            match Argon2::default().verify_password(password.as_bytes(), &hash) {
                Ok(()) => Ok(true),
                Err(password_hash::Error::Password) => Ok(false),
                Err(error) => Err(error),
            }
        };
        let right = self.in_turn(check).await?.map_err(|error| Error::Crypto(error.into()))?;
        Ok(right && known)
    }
}

#[cfg(test)]
mod tests {
    use super::{Argon, WAITING_PER_THREAD};
    use crate::domain::{Error, Password, Passwords};
    use std::time::Duration;
    use tokio::time::Instant;

    fn password(text: &str) -> Password {
        Password::claimed(text.into())
    }

    #[tokio::test]
    async fn only_the_hashed_password_matches() {
        let argon = Argon::new(1).await.unwrap();
        let hash = argon.hash(&password("correct horse")).await.unwrap();
        assert!(argon.matches(&password("correct horse"), Some(&hash)).await.unwrap());
        assert!(!argon.matches(&password("correct horse "), Some(&hash)).await.unwrap());
        assert!(!argon.matches(&password("nobody has this password"), None).await.unwrap());
        assert_ne!(hash, argon.hash(&password("correct horse")).await.unwrap(), "every hash has its own salt");
    }

    #[tokio::test]
    async fn an_unknown_user_takes_as_long_as_a_wrong_password() {
        let argon = Argon::new(1).await.unwrap();
        let hash = argon.hash(&password("correct horse")).await.unwrap();
        let mut shortest = [Duration::MAX; 2];
        // The shortest of several: other work on the machine only ever adds time.
        for _ in 0..5 {
            for (n, hash) in [None, Some(&hash)].into_iter().enumerate() {
                let start = Instant::now();
                assert!(!argon.matches(&password("wrong"), hash).await.unwrap());
                shortest[n] = shortest[n].min(start.elapsed());
            }
        }
        let [unknown, wrong] = shortest;
        assert!(unknown * 2 > wrong && wrong * 2 > unknown, "unknown user {unknown:?}, wrong password {wrong:?}");
    }

    #[tokio::test]
    async fn where_cores_are_never_idle_passwords_are_checked_all_the_same() {
        let argon = Argon::new(1).await.unwrap();
        let (never, told) = std::sync::mpsc::channel::<()>();
        argon.idle.run(move || {
            let _ = told.recv();
        });
        assert!(!argon.matches(&password("wrong"), None).await.unwrap());
        drop(never);
        assert!(!argon.matches(&password("wrong"), None).await.unwrap());
    }

    #[tokio::test]
    async fn past_the_queue_callers_are_turned_away_at_once() {
        let argon = Argon::new(1).await.unwrap();
        let all = (0..WAITING_PER_THREAD + 11).map(|_| {
            let argon = argon.clone();
            tokio::spawn(async move { argon.matches(&password("wrong"), None).await })
        });
        let mut turned_away = 0;
        for call in all.collect::<Vec<_>>() {
            turned_away += usize::from(matches!(call.await.unwrap(), Err(Error::Busy)));
        }
        assert_eq!(turned_away, 10);
        assert!(argon.matches(&password("wrong"), None).await.is_ok(), "the queue is open again");
    }
}
