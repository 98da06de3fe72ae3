//! Whose turn it is on a processor: a thread that has a few milliseconds to answer what another program does goes before all that
//! only compute.

use std::fmt;
use std::io;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// How far a thread goes before others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before every thread of the usual kind (`SCHED_FIFO`, lowest priority).
    First,
    /// Among them, with the largest share (nice -20).
    Favoured,
    /// As any other.
    Usual,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "before others (SCHED_FIFO)",
            Self::Favoured => "with the largest share (nice -20)",
            Self::Usual => "among others: no leave for more (CAP_SYS_NICE, or LimitRTPRIO=1 in the unit)",
        })
    }
}

/// Has the calling thread go before others as far as it may, and says how far. For threads that wait for most of their time; those that
/// they start are as any other.
pub fn go_first() -> Turn {
    let turn = if schedule_first().is_ok() {
        Turn::First
    } else if setpriority_process(Some(gettid()), -20).is_ok() {
        Turn::Favoured
    } else {
        Turn::Usual
    };
    tracing::debug!(thread = std::thread::current().name(), %turn, "what starts is seen");
    turn
}

fn schedule_first() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // musl's function of that name always fails.
    // SAFETY: the parameters outlive the call, which only reads them; 0 is the calling thread.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const lowest) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// The nice value and the policy of the calling thread (`proc(5)`, fields 19 and 41 of `stat`).
    fn told() -> (i32, u32) {
        let stat = fs::read_to_string("/proc/thread-self/stat").expect("this thread's state");
        let fields: Vec<_> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
        (fields[16].parse().expect("a nice value"), fields[38].parse().expect("a policy"))
    }

    #[test]
    fn a_thread_goes_as_far_before_others_as_it_says_and_what_it_starts_does_not() {
        let usual = told();
        let ((turn, own), child) =
            thread::spawn(|| ((go_first(), told()), thread::spawn(told).join().expect("no panic")))
                .join()
                .expect("no panic");
        match turn {
            Turn::First => assert_eq!((own.1, child.1), (1, 0)),
            Turn::Favoured => assert_eq!(own, (-20, 0)),
            Turn::Usual => assert_eq!((own, child), (usual, usual)),
        }
        assert_eq!(told(), usual, "no other thread is touched");
    }
}
