//! The lab by itself: without an agent, every client reaches the stand-ins, and nothing but the stand-ins.

use anyhow::{Result, ensure};
use moxie_tests::lab::{APP_ADDRESS, Place, process};
use moxie_tests::programs::{self, Program};
use moxie_tests::{Lab, Session};
use serde_json::json;

#[test]
fn every_client_reaches_the_stand_in_by_name() -> Result<()> {
    let lab = Lab::new()?;
    for program in Program::ALL {
        let words = program.calls("https://api.customer.io/v1/activities", 2);
        let mut command = lab.command(&words[0], Place::Inside)?;
        command.args(&words[1..]);
        let done = process::run(command)?;
        let answers = programs::answers(&done.stdout)?;
        ensure!(answers.len() == 2, "{}: {done:?}", program.name());
        for answer in answers {
            ensure!(answer.is_from("api.customer.io"), "{}: {answer:?}", program.name());
            let peer = answer.peer.as_deref().unwrap_or("198.51.100.10:443");
            assert_eq!(peer, "198.51.100.10:443", "{}", program.name());
        }
    }
    let protocols: Vec<_> = lab.origins().seen("api.customer.io").into_iter().map(|seen| seen.protocol).collect();
    assert_eq!(protocols.iter().filter(|protocol| *protocol == "HTTP/2.0").count(), 2, "{protocols:?}");
    assert_eq!(protocols.len(), 2 * Program::ALL.len());
    Ok(())
}

#[test]
fn nothing_beyond_the_cable_can_be_reached() -> Result<()> {
    let lab = Lab::new()?;
    for address in ["192.0.2.1", "2001:db8::1"] {
        let mut session = session(&lab)?;
        let reply = session.tell(&json!({"do": "tcp", "host": address, "port": 443, "name": "out"}))?;
        assert!(reply["error"].as_str().unwrap_or_default().contains("unreachable"), "{reply}");
    }
    Ok(())
}

#[test]
fn a_session_streams_upgrades_and_keeps_its_connection() -> Result<()> {
    let lab = Lab::new()?;
    let mut session = session(&lab)?;
    for _ in 0..3 {
        let answer = session.get("https://api.github.com/zen")?;
        assert_eq!(answer.certificate, Some(lab.origins().fingerprint("api.github.com")));
    }
    assert_eq!(lab.origins().connections("api.github.com"), 1);

    session.tell(&json!({"do": "stream", "url": "https://api.github.com/events", "name": "events"}))?;
    for number in 0..3 {
        let line = session.tell(&json!({"do": "line", "name": "events"}))?;
        assert_eq!(line["line"], format!("data: {number}"));
        session.fresh("https://api.github.com/next")?;
    }

    let status = session.tell(&json!({"do": "upgrade", "url": "https://api.github.com/upgrade", "name": "ws"}))?;
    assert_eq!(status["status"], 101);
    session.tell(&json!({"do": "say", "name": "ws", "text": "ping"}))?;
    assert_eq!(session.tell(&json!({"do": "hear", "name": "ws", "count": 4}))?["text"], "ping");

    session.tell(&json!({"do": "tcp", "host": "banner.example", "port": 443, "name": "banner"}))?;
    assert_eq!(session.tell(&json!({"do": "hear", "name": "banner", "count": 3}))?["text"], "220");
    session.end()
}

#[test]
fn an_unknown_authority_is_refused_by_clients() -> Result<()> {
    let lab = Lab::new()?;
    let answer = session(&lab)?.get("https://untrusted.example/")?;
    assert!(answer.error.as_deref().unwrap_or_default().contains("certificate verify failed"), "{answer:?}");
    assert!(lab.origins().seen("untrusted.example").is_empty());
    Ok(())
}

#[test]
fn the_six_side_works_and_sources_are_the_labs() -> Result<()> {
    let lab = Lab::new()?;
    let answer = session(&lab)?.get("https://six.example/")?;
    assert_eq!(answer.peer.as_deref(), Some("fd00:6d6f:7869::10:443"));
    let mut command = lab.command("/bin/sh", Place::Inside)?;
    command.args(["-c", "ip -o -4 route get 198.51.100.10"]);
    let route = process::run(command)?.stdout;
    assert!(route.contains(APP_ADDRESS), "{route}");
    Ok(())
}

#[test]
fn dropping_a_lab_removes_all_of_it() -> Result<()> {
    let lab = Lab::new()?;
    let cgroups = lab.all_cgroups();
    let mut command = lab.command("/bin/sleep", Place::Inside)?;
    command.arg("1000");
    let sleeper = process::Running::start(command)?;
    assert_eq!(lab.processes()?, 1);
    let files = lab.files().to_path_buf();
    drop(lab);
    let ended = sleeper.finish(moxie_tests::bounds::SOON)?;
    assert_eq!(ended.code(), None, "killed by a signal");
    assert!(cgroups.iter().all(|cgroup| !cgroup.exists()), "{cgroups:?}");
    assert!(!files.exists());
    Ok(())
}

fn session(lab: &Lab) -> Result<Session> {
    Session::start(lab.command(programs::PYTHON, Place::Inside)?, "session.py", &[])
}
