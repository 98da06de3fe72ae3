//! What is known of an address, by what was seen there.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn key(last: u8) -> HintKey {
    HintKey { place: 1, tag: 7, address: Address::from(std::net::IpAddr::from([198, 51, 100, last])) }
}

/// A rule could name what begins with `r`.
fn ruled(name: &str) -> bool {
    name.starts_with('r')
}

#[derive(Default)]
struct Bench(Table);

impl Bench {
    fn learn(&mut self, last: u8, names: &[&str], seconds: u64, at: u64) -> Option<u64> {
        let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        let words = self.0.learn(key(last), &names, Duration::from_secs(seconds), at * SECOND, &mut ruled);
        words.into_iter().find_map(|word| match word {
            Word::Known(_, until) => Some(until / SECOND),
            Word::Unknown(_) => None,
        })
    }
}

#[test]
fn an_address_is_known_for_as_long_as_its_answer_says_and_no_longer_than_five_minutes() {
    let mut bench = Bench::default();
    assert_eq!(bench.learn(1, &["free"], 20, 100), Some(120));
    assert_eq!(bench.learn(1, &["free"], 86_400, 110), Some(410));
    assert_eq!(bench.learn(1, &["free"], 5, 111), Some(116), "the newest answer counts");
    assert_eq!(bench.learn(2, &["free"], 0, 100), None, "not to be kept at all");
    assert_eq!((bench.0.known(1, 112 * SECOND), bench.0.known(1, 116 * SECOND)), (1, 0));
    assert_eq!(bench.0.known(2, 112 * SECOND), 0, "another cgroup's");
    assert!(bench.0.has_known(1, key(1).address) && !bench.0.has_known(1, key(2).address));
}

#[test]
fn a_named_host_at_the_same_address_wins_whichever_was_seen_first() {
    let mut bench = Bench::default();
    assert_eq!(bench.learn(1, &["free"], 60, 0), Some(60));
    assert_eq!(bench.learn(1, &["ruled"], 10, 1), None);
    assert_eq!(bench.learn(1, &["free"], 60, 2), None);
    assert_eq!(bench.learn(1, &["free"], 60, 3000), None, "clients may remember it for an hour");
    assert_eq!(bench.learn(1, &["free"], 60, 3612), Some(3672));
    assert_eq!(bench.learn(2, &["free", "ruled"], 60, 0), None, "one name of the chain");
}

#[test]
fn an_address_that_a_rule_names_itself_is_not_known() {
    let mut table = Table::default();
    let mut is_nameable = |name: &str| name == "198.51.100.1" || name == "[2001:db8::1]";
    let mut learn = |address: &str| {
        let address = Address::from(address.parse::<IpAddr>().unwrap());
        let key = HintKey { address, ..key(0) };
        table.learn(key, &["free".into()], Duration::from_mins(1), 0, &mut is_nameable);
        table.has_known(1, address)
    };
    assert!(!learn("198.51.100.1") && !learn("2001:db8::1"));
    assert!(learn("198.51.100.2") && learn("2001:db8::2"));
}

#[test]
fn other_rules_judge_anew_what_was_seen() {
    let mut bench = Bench::default();
    bench.learn(1, &["free"], 60, 0);
    bench.learn(2, &["ruled"], 60, 0);
    let mut words = bench.0.judge_all(SECOND, &mut |name| name == "free");
    words.sort_by_key(|word| matches!(word, Word::Known(..)));
    assert_eq!(words, [Word::Unknown(key(1)), Word::Known(key(2), 60 * SECOND)]);
    assert!(bench.0.judge_all(100 * SECOND, &mut |_| false).iter().all(|word| matches!(word, Word::Unknown(_))));
    assert!(bench.0.judge_all(4000 * SECOND, &mut |_| false).is_empty(), "nobody remembers them");
    bench.learn(1, &["free"], 60, 5000);
    let forgotten = bench.0.judge_all(9000 * SECOND, &mut |_| false);
    assert_eq!(forgotten, [Word::Unknown(key(1))], "what was known is taken back as it is forgotten");
}

#[test]
fn what_was_not_understood_makes_a_cgroups_addresses_unknown_for_a_while() {
    let mut bench = Bench::default();
    bench.learn(1, &["free"], 60, 0);
    assert_eq!(bench.0.distrust(1, PASSING, SECOND), [Word::Unknown(key(1))]);
    assert_eq!(bench.0.distrust(2, PASSING, SECOND), []);
    assert_eq!(bench.learn(2, &["free"], 60, 2), None);
    assert_eq!(bench.learn(2, &["free"], 60, 302), Some(362));
    bench.0.distrust(1, LASTING, 302 * SECOND);
    bench.0.distrust(1, PASSING, 303 * SECOND);
    assert_eq!(bench.learn(2, &["free"], 60, 4201), None, "the longer time counts");
    assert_eq!(bench.learn(2, &["free"], 60, 4202), Some(4262));
}

#[test]
fn a_crowd_of_names_is_not_known() {
    let mut bench = Bench::default();
    let names: Vec<String> = (0..40).map(|number| format!("free{number}")).collect();
    for name in &names[..32] {
        assert!(bench.learn(1, &[name], 60, 0).is_some());
    }
    assert_eq!(bench.learn(1, &[&names[32]], 60, 0), None);
    assert_eq!(bench.learn(1, &[&names[0]], 60, 3000), None);
}

#[test]
fn a_full_table_knows_less_and_never_more() {
    let mut bench = Bench::default();
    for number in 0..KNOWN_ADDRESSES {
        let address = Address([9, 9, 9, u32::try_from(number).unwrap()]);
        bench.0.learn(HintKey { address, ..key(0) }, &["free".into()], Duration::from_mins(1), 0, &mut ruled);
    }
    assert_eq!(bench.learn(1, &["free"], 60, 0), None);
    assert_eq!(bench.0.known(1, SECOND), KNOWN_ADDRESSES);
    bench.learn(1, &["ruled"], 60, 0);
    assert_eq!(bench.0.known(1, SECOND), 0, "where it is cannot be remembered");
    assert_eq!(bench.learn(1, &["free"], 60, 5000), Some(5060), "the others are forgotten by then");
}

#[test]
fn a_cgroup_that_leaves_takes_its_addresses_along() {
    let mut bench = Bench::default();
    bench.learn(1, &["free"], 60, 0);
    bench.learn(2, &["ruled"], 60, 0);
    assert_eq!(bench.0.leave(1, 77, SECOND), [Word::Unknown(key(1))]);
    assert!(bench.0.leave(1, 78, SECOND).is_empty());
}

#[test]
fn a_cgroup_that_comes_back_remembers_where_a_rules_name_was() {
    let mut bench = Bench::default();
    bench.learn(1, &["free"], 60, 0);
    bench.learn(2, &["ruled"], 60, 0);
    bench.learn(3, &["later"], 60, 0);
    bench.0.leave(1, 77, SECOND);
    bench.0.join(1, 78, 2 * SECOND);
    assert_eq!(bench.learn(2, &["free"], 60, 2), Some(62), "another cgroup has the number");
    bench.0.leave(1, 78, 3 * SECOND);
    bench.0.join(1, 77, 4 * SECOND);
    assert_eq!(bench.0.known(1, 4 * SECOND), 0, "not before another answer");
    assert_eq!(bench.learn(1, &["free"], 60, 5), Some(65));
    assert_eq!(bench.learn(2, &["free"], 60, 5), None);
    assert_eq!(bench.learn(3, &["free"], 60, 5), Some(65));
    let words = bench.0.judge_all(6 * SECOND, &mut |name| name == "later");
    assert!(words.contains(&Word::Unknown(key(3))), "what is a rule's name by now");
    bench.0.leave(1, 77, 3000 * SECOND);
    bench.0.join(1, 77, 3001 * SECOND);
    assert_eq!(bench.learn(2, &["free"], 60, 3002), None);
    assert_eq!(bench.learn(2, &["free"], 60, 3661), Some(3721), "an hour after its answer");
}

/// What an agent hands over of cgroup 77, which is its place 1.
fn handed(from: &Bench) -> Left {
    let mut all = from.0.hand(&BTreeMap::from([(1, 77)]));
    assert_eq!(all.len(), 1);
    let (cgroup, left) = all.remove(0);
    assert_eq!(cgroup, 77);
    left
}

/// Whether it is known there, judged anew.
fn judged(bench: &mut Bench, place: u32, last: u8, at: u64) -> Option<u64> {
    let words = bench.0.judge_all(at * SECOND, &mut ruled);
    words.into_iter().find_map(|word| match word {
        Word::Known(found, until) if found == HintKey { place, ..key(last) } => Some(until / SECOND),
        _ => None,
    })
}

#[test]
fn what_another_agent_has_seen_counts_as_if_it_had_been_seen_here() {
    let (mut old, mut new) = (Bench::default(), Bench::default());
    old.learn(1, &["free"], 60, 0);
    old.learn(2, &["ruled"], 60, 0);
    old.learn(3, &["ruled"], 60, 0);
    // Both have seen these.
    old.learn(4, &["free"], 60, 1);
    new.learn(4, &["free"], 20, 2);
    new.learn(3, &["free"], 60, 2);
    new.0.receive(Some(1), 77, handed(&old), 3 * SECOND);
    let mut known = |last| judged(&mut new, 1, last, 4);
    assert_eq!([known(1), known(2), known(3), known(4)], [Some(60), None, None, Some(22)]);
    assert_eq!(new.learn(2, &["free"], 60, 5), None);
    assert_eq!(new.learn(2, &["free"], 60, 3660), Some(3720), "an hour after its answer");
}

#[test]
fn what_another_agent_has_seen_waits_for_a_cgroup_without_hints_and_for_another_answer() {
    let (mut old, mut new) = (Bench::default(), Bench::default());
    old.learn(1, &["free"], 60, 0);
    old.learn(2, &["ruled"], 60, 0);
    old.0.leave(1, 77, 0);
    let left = old.0.hand(&BTreeMap::new()).remove(0).1;
    new.learn(2, &["free"], 60, 0);
    new.learn(3, &["ruled"], 60, 0);
    new.0.leave(1, 77, 0);
    new.0.receive(None, 77, left, SECOND);
    new.0.join(1, 77, 2 * SECOND);
    assert_eq!([1, 2, 3].map(|last| judged(&mut new, 1, last, 3)), [None; 3]);
    assert_eq!([1, 2, 3].map(|last| new.learn(last, &["free"], 60, 4)), [Some(64), None, None]);
}

#[test]
fn what_another_agent_distrusts_is_distrusted_and_so_is_more_than_there_is_room_for() {
    let (mut old, mut new) = (Bench::default(), Bench::default());
    old.0.distrust(1, LASTING, 0);
    new.0.distrust(5, PASSING, 0);
    new.0.receive(Some(5), 77, handed(&old), 0);
    assert_eq!(new.0.distrusted[&5], nanoseconds(LASTING));

    let (mut old, mut new) = (Bench::default(), Bench::default());
    for number in 0..=KNOWN_ADDRESSES / 2 {
        let address = Address([9, 9, 9, u32::try_from(number).unwrap()]);
        let (ours, theirs) = (HintKey { address, ..key(0) }, HintKey { address, place: 2, ..key(0) });
        old.0.learn(ours, &["free".into()], Duration::from_mins(1), 0, &mut ruled);
        new.0.learn(theirs, &["free".into()], Duration::from_mins(1), 0, &mut ruled);
    }
    new.0.receive(Some(1), 77, handed(&old), SECOND);
    assert_eq!(new.0.distrusted[&1], SECOND + nanoseconds(LASTING));
    assert_eq!((judged(&mut new, 1, 1, 2), new.0.known(2, 2 * SECOND)), (None, KNOWN_ADDRESSES / 2 + 1));
}

#[test]
fn what_a_cgroup_had_to_distrust_it_distrusts_when_it_comes_back() {
    let mut bench = Bench::default();
    bench.0.distrust(1, LASTING, 0);
    bench.0.leave(1, 77, SECOND);
    bench.0.join(1, 77, 2 * SECOND);
    assert_eq!(bench.learn(1, &["free"], 60, 3899), None);
    assert_eq!(bench.learn(1, &["free"], 60, 3900), Some(3960));
}

#[test]
fn more_than_can_be_kept_of_cgroups_that_left_is_distrusted() {
    let mut bench = Bench::default();
    for cgroup in 1..=2 {
        for number in 0..=u32::try_from(KNOWN_ADDRESSES / 2).unwrap() {
            let key = HintKey { address: Address([9, 9, 9, number]), ..key(0) };
            bench.0.learn(key, &["free".into()], Duration::from_mins(1), 0, &mut ruled);
        }
        bench.0.leave(1, cgroup, 0);
    }
    bench.0.join(1, 2, SECOND);
    assert_eq!(bench.learn(1, &["free"], 60, 3899), None);
    assert_eq!(bench.learn(1, &["free"], 60, 3900), Some(3960));
}
