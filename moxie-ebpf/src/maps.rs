//! The maps, and the accesses to them that the map types do not offer.

use core::arch::asm;
use core::ffi::c_void;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::btf_maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::btf_maps::{self, Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::btf_map;
use moxie_common::hints::{Answer, HINTED_PLACES, Hint, HintKey, KNOWN_ADDRESSES, KNOWN_QUESTIONS, QuestionKey};
use moxie_common::{
    ADDRESS_ENTRIES, Address, AddressKey, Control, Counter, HandshakeKey, Mark, Origin, PORT_WORDS, Share, Tag,
    UnderWay, listed, port_bit,
};

use crate::scope::words;

/// Handshakes under way at one time, unless the agent asks for another number; each entry lives from a SYN to the end of its
/// handshake, or until the agent takes it out.
const HANDSHAKES_UNDER_WAY: usize = 16_384;

/// Bytes of the ring that answers go through: room for some two hundred.
const RING: usize = 256 * 1024;

#[expect(deprecated, reason = "its successor came with Linux 6.2")]
type CgroupShares = btf_maps::CgroupStorage<Share>;
#[expect(deprecated, reason = "its successor came with Linux 6.2")]
type CgroupCounts = btf_maps::PerCpuCgroupStorage<u64>;

#[btf_map]
static CONTROL: Array<Control, 1> = Array::new();
#[btf_map]
static PORTS: Array<u64, PORT_WORDS> = Array::new();
#[btf_map]
static LISTENERS: Array<u32, { Tag::COUNT }> = Array::new();
#[btf_map]
static ADDRESSES: LpmTrie<AddressKey, u32, ADDRESS_ENTRIES> = LpmTrie::new();
#[btf_map]
static SHARES: CgroupShares = CgroupShares::new();
#[btf_map]
static REFUSED: CgroupCounts = CgroupCounts::new();
#[btf_map]
static COUNTERS: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();
#[btf_map]
static ORIGINS: SkStorage<Origin> = SkStorage::new();
#[btf_map]
pub static HANDSHAKES: HashMap<HandshakeKey, Origin, HANDSHAKES_UNDER_WAY> = HashMap::new();
#[btf_map]
static UNDER_WAY: Array<UnderWay, 1> = Array::new();
#[btf_map]
static HINTS: HashMap<HintKey, Hint, KNOWN_ADDRESSES> = HashMap::new();
#[btf_map]
static QUESTIONS: LruHashMap<QuestionKey, u64, KNOWN_QUESTIONS> = LruHashMap::new();
#[btf_map]
pub static ANSWERS: RingBuf<Answer, RING> = RingBuf::new();
#[btf_map]
static ASKED: Array<u64, HINTED_PLACES> = Array::new();
#[btf_map]
static HANDLED: Array<u64, HINTED_PLACES> = Array::new();

/// The agent has one more answer to look at.
#[inline(always)]
pub fn ask(place: u32) {
    if let Some(asked) = ASKED.get_ptr_mut(place) {
        // SAFETY: a value of a live map, aligned.
        unsafe { increment(asked) };
    }
}

/// Whether a question was found to be about no rule's name under the present rules.
#[inline(always)]
pub fn is_known_question(question: &QuestionKey) -> bool {
    // SAFETY: read at once; an entry that is replaced meanwhile has another generation.
    let Some(found) = (unsafe { QUESTIONS.get(question) }) else { return false };
    control().is_some_and(|control| *found == control.hints)
}

/// Whether an address belongs only to names that no rule could name, as far as every answer so far tells.
#[inline(always)]
pub fn is_known_address(key: &HintKey, control: &Control, now: u64) -> bool {
    let (Some(asked), Some(handled)) = (ASKED.get_ptr(key.place), HANDLED.get_ptr(key.place)) else { return false };
    // Before the hint: the agent says what follows from an answer, then that it has looked at it. A hint that was read first could be
    // from before an answer that counts as looked at.
    // SAFETY: values of live maps, aligned.
    let (handled, asked) = unsafe { (read_volatile(handled), read_volatile(asked)) };
    if asked != handled {
        return false;
    }
    let Some(hint) = HINTS.get_ptr(key) else { return false };
    // SAFETY: a value of a live map, aligned. It may become another key's at any time, which its key tells if that is read last.
    let (until_ns, generation, of) = unsafe {
        let until_ns = read_volatile(&raw const (*hint).until_ns);
        let generation = read_volatile(&raw const (*hint).generation);
        (until_ns, generation, read_key(&raw const (*hint).key))
    };
    generation == control.hints && now < until_ns && of == *key
}

/// # Safety
/// `key` is of a live map, and aligned.
#[inline(always)]
unsafe fn read_key(key: *const HintKey) -> HintKey {
    // SAFETY: the caller's promise; by words, as each access of a program is.
    unsafe {
        HintKey {
            place: read_volatile(&raw const (*key).place),
            tag: read_volatile(&raw const (*key).tag),
            address: Address(words(&raw const (*key).address.0)),
        }
    }
}

/// Heartbeat and switches.
#[inline(always)]
pub fn control() -> Option<&'static Control> {
    CONTROL.get(0)
}

/// Whether connections to `port` (host order) are wanted.
#[inline(always)]
pub fn is_wanted(port: u16) -> bool {
    let (word, bit) = port_bit(port);
    PORTS.get(word).is_some_and(|word| word & bit != 0)
}

/// What the operator's lists say of an address: one of [`listed`].
#[inline(always)]
pub fn verdict_on(address: &Address, control: &Control) -> u32 {
    if control.unlisted == listed::NO_LISTS {
        return listed::ALLOWED;
    }
    let key = AddressKey::new(control.generation, *address, address.is_v4());
    ADDRESSES.get(&Key::new(AddressKey::BITS, key)).map_or(control.unlisted, |verdict| *verdict)
}

/// Whether another handshake may begin.
#[inline(always)]
pub fn has_room(control: &Control) -> bool {
    UNDER_WAY.get(0).is_some_and(|count| count.left(control.forgotten) < control.handshakes)
}

/// Notes a handshake that begins. False: there is no room for it, since several have begun at the same moment.
#[inline(always)]
pub fn begin(key: &HandshakeKey, origin: &Origin) -> bool {
    // One of the same name came to nothing, and is counted already; or the agent has taken it out between the two.
    begin_first(key, origin) || HANDSHAKES.insert(key, origin, BPF_EXIST.into()).is_ok() || begin_first(key, origin)
}

/// Notes that a handshake goes on, so that it is no longer taken for one that came to nothing. True: it had been, and is noted again.
#[inline(always)]
pub fn go_on(key: &HandshakeKey, origin: &Origin, now_ms: u32) -> bool {
    let is_again = HANDSHAKES.get_ptr(key).is_none() && begin_first(key, origin);
    if let Some(there) = HANDSHAKES.get_ptr_mut(key) {
        // SAFETY: a value of a live map, aligned; nobody else writes that word.
        unsafe { write_volatile(&raw mut (*there).began_ms, now_ms) };
    }
    is_again
}

#[inline(always)]
fn begin_first(key: &HandshakeKey, origin: &Origin) -> bool {
    if HANDSHAKES.insert(key, origin, BPF_NOEXIST.into()).is_ok() {
        if let Some(count) = UNDER_WAY.get_ptr_mut(0) {
            // SAFETY: a value of a live map, aligned as its type is.
            unsafe { increment(&raw mut (*count).begun) };
        }
        return true;
    }
    false
}

/// Takes out a handshake that has ended; the agent may have taken it out before.
#[inline(always)]
pub fn end(key: &HandshakeKey) {
    if HANDSHAKES.remove(key).is_ok()
        && let Some(count) = UNDER_WAY.get_ptr_mut(0)
    {
        // SAFETY: as above.
        unsafe { increment(&raw mut (*count).ended) };
    }
}

/// Adds one for all CPUs to see. The language has atomics for this target that load and store and no others; the kernel has this
/// one since ever, and one that also tells the sum since 5.12.
///
/// # Safety
/// `count` is aligned and of a live map.
#[inline(always)]
unsafe fn increment(count: *mut u64) {
    // SAFETY: the caller's promise; nothing but that word is written.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) count, in(reg) 1_u64, options(nostack)) };
}

/// What may be diverted to the listener set that carries `mark`, which is one of Moxie's; 0 if the set is not this agent's.
#[inline(always)]
pub fn reach(mark: Mark) -> u32 {
    LISTENERS.get(mark.tag_index()).map_or(0, |reach| *reach)
}

#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(count) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's slot of a live map; programs of these types are not preempted by each other on one slot for longer
        // than an addition, and a count lost to that is harmless.
        unsafe { *count += 1 }
    }
}

/// What of the connections of the cgroup that the program is attached to is diverted.
#[inline(always)]
pub fn share() -> Share {
    // SAFETY: a value of a live map, never null. User space replaces it as a whole, so each half is one that was written.
    unsafe { read_volatile(SHARES.get_ptr_mut()) }
}

/// Counts a refusal for the cgroup that the program is attached to.
#[inline(always)]
pub fn count_refused() {
    // SAFETY: this CPU's value of a live map, never null; see above.
    unsafe { *REFUSED.get_ptr_mut() += 1 }
}

#[inline(always)]
fn origins() -> *mut c_void {
    (&raw const ORIGINS).cast_mut().cast()
}

/// What is remembered of `socket`, which must not be null.
#[inline(always)]
pub fn origin<'a>(socket: *mut c_void) -> Option<&'a Origin> {
    // SAFETY: the helper takes a socket from the context and gives a value of this map, or null; the value lives as long as the
    // socket, which outlives the program's run.
    unsafe { bpf_sk_storage_get(origins(), socket, core::ptr::null_mut(), 0).cast::<Origin>().as_ref() }
}

/// Remembers `origin` of `socket`, in place of what was remembered before. False if the kernel has no memory for it.
#[inline(always)]
pub fn remember(socket: *mut c_void, origin: &Origin) -> bool {
    let create = BPF_SK_STORAGE_GET_F_CREATE.into();
    // SAFETY: as above.
    let stored: *mut Origin = unsafe { bpf_sk_storage_get(origins(), socket, core::ptr::null_mut(), create) }.cast();
    if stored.is_null() {
        return false;
    }
    // SAFETY: not null, a value of this map, of which `origin` is no part. Not an assignment: that would be a call of memmove.
    unsafe { core::ptr::copy_nonoverlapping(origin, stored, 1) };
    true
}

/// Forgets what an earlier connect of `socket` left.
#[inline(always)]
pub fn forget(socket: *mut c_void) {
    // SAFETY: a socket from the context. The answer tells only whether there was something to forget.
    let _ = unsafe { bpf_sk_storage_delete(origins(), socket) };
}
