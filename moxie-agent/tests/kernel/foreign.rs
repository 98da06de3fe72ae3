//! Programs of others that were attached to a cgroup first, the old way: exclusively, to be overridden, or among many.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use moxie_agent::divert::ebpf::EbpfOptions;
use moxie_agent::divert::{Attachment, Divert as _, DivertError, Terms};
use moxie_agent::scope::cgroup::RunCgroup;

use super::{V4, said};
use crate::lab::agent::Agent;
use crate::lab::{DIRECT, DIVERTED, Lab};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const BPF_CGROUP_INET4_CONNECT: u32 = 10;

/// Flags of `BPF_PROG_ATTACH`.
#[derive(Clone, Copy, Debug)]
enum How {
    Exclusive = 0,
    Override = 1,
    Multi = 2,
}

/// The first part of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The same for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// A program that lets every connect pass, on a cgroup until dropped.
struct Foreign {
    program: OwnedFd,
    cgroup: File,
}

impl Foreign {
    fn attach(cgroup: &Path, how: How) -> Self {
        // r0 = 1; exit.
        let instructions = [0x0000_0001_0000_00b7_u64, 0x0000_0000_0000_0095];
        let load = Load {
            prog_type: BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
            insn_cnt: 2,
            insns: instructions.as_ptr() as u64,
            license: c"MIT".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
            prog_name: [0; 16],
            prog_ifindex: 0,
            expected_attach_type: BPF_CGROUP_INET4_CONNECT,
        };
        let program = bpf(BPF_PROG_LOAD, &load).unwrap();
        // SAFETY: the kernel has just given this descriptor, to nobody else.
        let program = unsafe { OwnedFd::from_raw_fd(program) };
        let foreign = Self { program, cgroup: File::open(cgroup).unwrap() };
        bpf(BPF_PROG_ATTACH, &foreign.attr(how)).unwrap();
        foreign
    }

    fn attr(&self, how: How) -> Attach {
        Attach {
            target_fd: self.cgroup.as_raw_fd().cast_unsigned(),
            attach_bpf_fd: self.program.as_raw_fd().cast_unsigned(),
            attach_type: BPF_CGROUP_INET4_CONNECT,
            attach_flags: how as u32,
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = bpf(BPF_PROG_DETACH, &self.attr(How::Exclusive));
    }
}

fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<RawFd> {
    // SAFETY: the structure is as long as said, and what it points to outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(RawFd::try_from(answer).unwrap()) }
}

type Attached = Result<Box<dyn Attachment>, DivertError>;

/// Attaches beside a foreign program on the cgroup itself or above it, tells how that went, and checks where a call then goes.
fn check(how: How, is_above: bool, is_as_expected: impl Fn(&Attached) -> bool) {
    let Some(lab) = Lab::new() else { return };
    let agent = Agent::start(&lab, EbpfOptions::default());
    let cgroup = RunCgroup::create().unwrap();
    let scope = cgroup.path().join("scope");
    std::fs::create_dir(&scope).unwrap();
    let foreign = Foreign::attach(if is_above { cgroup.path() } else { &scope }, how);
    let attached = agent.divert().attach(&scope, Terms::default());
    assert!(is_as_expected(&attached), "{how:?}, above: {is_above}: {attached:?}");
    let mut client = lab.client(Some(&cgroup));
    client.move_to(&scope);
    let word = if attached.is_ok() { DIVERTED } else { DIRECT };
    assert_eq!(client.ask(&format!("tcp {V4}")), said(word, V4), "{how:?}, above: {is_above}");
    drop((attached, foreign));
    assert!(agent.divert().attach(&scope, Terms::default()).is_ok(), "once it is gone");
}

fn is_refused(attached: &Attached) -> bool {
    let Err(error @ DivertError::ForeignProgram { hook, .. }) = attached else { return false };
    let text = error.to_string();
    *hook == "moxie_connect4" && text.contains("bpftool cgroup tree") && text.contains("\"multi\" flag")
}

#[test]
fn one_that_wants_the_cgroup_to_itself_is_told_of_and_calls_go_direct() {
    check(How::Exclusive, false, is_refused);
    check(How::Exclusive, true, is_refused);
    check(How::Override, false, is_refused);
}

#[test]
fn one_that_shares_is_no_obstacle() {
    check(How::Multi, false, Attached::is_ok);
    check(How::Multi, true, Attached::is_ok);
    check(How::Override, true, Attached::is_ok);
}
