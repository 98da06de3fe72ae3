//! What is set is in force, is kept, and goes back to the configuration when asked to.

use super::*;
use crate::divert::paper::Paper;

fn paper() -> Arc<Paper> {
    Arc::new(Paper::default())
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn configured() -> AddressLists {
    AddressLists { allow: Vec::new(), deny: networks(&["10.0.0.0/8"]) }
}

#[test]
fn what_is_set_is_in_force_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("divert.json");
    let way = paper();
    let (board, warnings) = Switchboard::open(Arc::clone(&way) as _, Some(file.clone()), configured());
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(way.lists(), configured());
    let allow = networks(&["198.51.100.0/24"]);
    let change = Change { enabled: Some(false), allow: Some(ListChange::To(allow.clone())), deny: None };
    let setting = board.change(change).unwrap();
    let lists = AddressLists { allow, ..configured() };
    assert_eq!(setting, Setting { enabled: false, lists: lists.clone() });
    assert_eq!((way.is_enabled(), way.lists()), (false, lists.clone()));

    let later = paper();
    let (board, warnings) = Switchboard::open(Arc::clone(&later) as _, Some(file), AddressLists::default());
    assert_eq!(warnings, Vec::<String>::new());
    let kept = AddressLists { deny: Vec::new(), ..lists };
    assert_eq!(board.setting(), Setting { enabled: false, lists: kept.clone() }, "a list not set is as configured now");
    assert_eq!(later.lists(), kept);
    let change = Change { allow: Some(ListChange::AsConfigured), ..Change::default() };
    assert_eq!(board.change(change).unwrap().lists, AddressLists::default());
}

#[test]
fn lists_that_cannot_be_meant_change_nothing() {
    let way = paper();
    let (board, _) = Switchboard::open(Arc::clone(&way) as _, None, configured());
    let both = Change { enabled: Some(false), allow: Some(ListChange::To(networks(&["10.0.0.0/8"]))), deny: None };
    assert!(matches!(board.change(both), Err(SwitchError::Lists(_))));
    assert_eq!(board.setting(), Setting { enabled: true, lists: configured() });
}

#[test]
fn a_file_that_does_not_read_is_told_of_and_keeps_nothing_from_working() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("divert.json");
    std::fs::write(&file, "{\"enabled\": maybe").unwrap();
    let (board, warnings) = Switchboard::open(paper(), Some(file), configured());
    assert!(matches!(warnings.as_slice(), [one] if one.contains("divert.json")), "{warnings:?}");
    assert_eq!(board.setting(), Setting { enabled: true, lists: configured() });
    assert!(board.change(Change { enabled: Some(false), ..Change::default() }).is_ok());
}

#[test]
fn a_change_that_cannot_be_written_down_is_in_force_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("no such directory/divert.json");
    let way = paper();
    let (board, _) = Switchboard::open(Arc::clone(&way) as _, Some(file), AddressLists::default());
    let refused = board.change(Change { enabled: Some(false), ..Change::default() });
    assert!(matches!(refused, Err(SwitchError::NotKept { .. })), "{refused:?}");
    assert!(!way.is_enabled());
}

#[test]
fn where_the_way_has_no_lists_connections_come_and_pass_through() {
    let way = Arc::new(Paper::without_lists());
    let (board, warnings) = Switchboard::open(way, None, configured());
    assert_eq!(warnings, Vec::<String>::new());
    let alone = |address: &str| board.leaves_alone(address.parse().unwrap());
    assert!(alone("10.1.2.3") && alone("::ffff:10.1.2.3") && !alone("198.51.100.7"));
    let allow = Some(ListChange::To(networks(&["10.1.0.0/16", "2001:db8::/32"])));
    board.change(Change { allow, ..Change::default() }).unwrap();
    assert!(!alone("10.1.2.3") && alone("10.2.0.1") && alone("198.51.100.7") && !alone("2001:db8::1"));
}

#[test]
fn where_the_way_has_lists_nothing_is_left_to_the_data_path() {
    let (board, _) = Switchboard::open(paper(), None, configured());
    assert!(!board.leaves_alone("10.1.2.3".parse().unwrap()));
}
