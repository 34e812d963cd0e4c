//! What remains of secrets: in the memory of running routers, and in everything they say.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use aws_lc_rs::hkdf;
use fairway_crypto::{HopKeys, PeerKey};
use fairway_wire::ip;
use fairway_wire::svr::{Header, HeaderTlvs, PayloadTlvs, starts_with_cookie};

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, fairway, poll};
use crate::pcap::Capture;
use crate::programs::{page, ping, shell, url};

/// Something that is not to be found, and what it is called.
struct Secret {
    name: String,
    bytes: Vec<u8>,
}

fn secret(name: &str, bytes: &[u8]) -> Secret {
    Secret { name: name.to_owned(), bytes: bytes.to_vec() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |group: u32, at: u32| char::from(DIGITS[(group >> (18 - 6 * at) & 63) as usize]);
    let encode = |chunk: &[u8]| {
        let group = (0..3).fold(0, |group, at| group << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        (0..4).map(|at| if at <= chunk.len() as u32 { digit(group, at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(encode).collect()
}

/// How often each secret is in the memory of a process that it may write to.
fn found_in_memory(pid: u32, secrets: &[Secret]) -> Vec<(String, usize)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = vec![0; secrets.len()];
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // Rings that the kernel shares cannot be read so.
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        for (count, secret) in found.iter_mut().zip(secrets) {
            let first = secret.bytes[0];
            let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
            *count += starts.filter(|(at, _)| bytes[*at..].starts_with(&secret.bytes)).count();
        }
    }
    secrets.iter().map(|secret| secret.name.clone()).zip(found).collect()
}

/// Asserts that none of these is in the memory of a router.
#[track_caller]
fn assert_forgotten(lab: &Lab, router: &str, secrets: &[Secret]) {
    let pid = lab.pid(router);
    let nothing = || found_in_memory(pid, secrets).iter().all(|(_, count)| *count == 0);
    // Threads that wait hold what they did last until they do something again.
    assert!(poll(5, nothing), "in the memory of {router}: {:?}", found_in_memory(pid, secrets));
}

fn random_key() -> [u8; 32] {
    let mut bytes = [0; 32];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

fn write_key(lab: &Lab, text: &str) {
    let path = lab.path("keys/branch--dc.key");
    fs::remove_file(&path).unwrap();
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
}

/// A key in all its spellings.
fn spellings(name: &str, key: &[u8; 32]) -> Vec<Secret> {
    let mut all = vec![secret(&format!("{name}, raw"), key)];
    let (lower, upper) = (hex(key), hex(key).to_uppercase());
    // A part is as bad as the whole, and buffers may be cut.
    all.push(secret(&format!("{name}, hexadecimal"), &lower.as_bytes()[..32]));
    all.push(secret(&format!("{name}, the end in hexadecimal"), &lower.as_bytes()[32..]));
    all.push(secret(&format!("{name}, HEXADECIMAL"), &upper.as_bytes()[..32]));
    all.push(secret(&format!("{name}, base64"), &base64(key).as_bytes()[..32]));
    all
}

fn reload_all(lab: &Lab) {
    for router in lab.routers() {
        lab.reload(&router).ok();
    }
    let works = || lab.run("client", &["ping", "-c", "1", "-W", "1", SERVER[0]]).code == 0;
    assert!(poll(20, works), "no ping after a change of keys");
}

#[test]
fn a_key_that_was_replaced_is_nowhere_in_memory() {
    let Some(lab) = Fabric::new(2).raise("oldkeys") else { return };
    ping(&lab, SERVER[0]);
    let (first, second, third) = (random_key(), random_key(), random_key());
    write_key(&lab, &format!("{}\n", hex(&first)));
    reload_all(&lab);
    // What is sought is found where it is, so that it means something when it is not.
    let wan = Capture::start(&lab, "branch", "wan1");
    crate::lab::pass(std::time::Duration::from_secs(1));
    let salt = key_salt(&wan.packets(), "branch", "dc").expect("a message of branch");
    let mut made_of_first = spellings("the first key", &first);
    made_of_first.push(secret("the key of a hop", &hop_key(&first, &salt, "branch", "dc")));
    for router in lab.routers() {
        let found = found_in_memory(lab.pid(&router), &made_of_first);
        let there = |name: &str| found.iter().any(|(other, count)| other == name && *count > 0);
        assert!(there("the first key, raw") && there("the key of a hop"), "{router}: {found:?}");
    }
    write_key(&lab, &format!("# base64\n{}\n", base64(&second)));
    reload_all(&lab);
    for router in lab.routers() {
        assert_forgotten(&lab, &router, &made_of_first);
    }
    write_key(&lab, &format!("{}\n", hex(&third)));
    reload_all(&lab);
    for router in lab.routers() {
        assert_forgotten(&lab, &router, &spellings("the second key", &second));
        // Of the present one there is what is needed, and nothing of its file.
        assert_forgotten(&lab, &router, &spellings("the third key", &third)[1..]);
    }
}

/// What a session's metadata tells those who have the hop's key.
struct Told {
    secret: [u8; 32],
    salt: [u8; 16],
}

/// The session secrets in packets between two routers, in the direction of the sender.
fn told(packets: &[Vec<u8>], key: &PeerKey, sender: &str, receiver: &str) -> Vec<Told> {
    let read = |packet: &Vec<u8>| {
        let parsed = ip::parse(packet).ok()?;
        let payload = parsed.payload(packet);
        if !starts_with_cookie(payload) {
            return None;
        }
        let view = Header::parse(payload).ok()?;
        let header = HeaderTlvs::parse(view.header_tlvs()).ok()?;
        let keys = HopKeys::derive(key, &header.key_salt?, sender, receiver).ok()?;
        let mut section = view.payload_section().to_vec();
        let (iv, text) = section.split_first_chunk_mut()?;
        let length = keys.decrypt_metadata(iv, text).ok()?;
        let tlvs = PayloadTlvs::parse(text.get(..length)?).ok()?;
        tlvs.forward?;
        let (_, secret) = tlvs.session_key?.split_first()?;
        Some(Told { secret: secret.try_into().ok()?, salt: tlvs.sender_salt? })
    };
    packets.iter().filter_map(read).collect()
}

/// 36 bytes, of which the first 32 are a key.
struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        36
    }
}

/// The key salt of what one router sends to another.
fn key_salt(packets: &[Vec<u8>], sender: &str, receiver: &str) -> Option<[u8; 16]> {
    packets.iter().find_map(|packet| {
        let parsed = ip::parse(packet).ok()?;
        let header = HeaderTlvs::parse(Header::parse(parsed.payload(packet)).ok()?.header_tlvs()).ok()?;
        (header.security_id == Some(fairway_crypto::security_id(receiver, sender)))
            .then_some(header.key_salt?)
    })
}

/// The key that metadata between two routers is encrypted with, as docs/wire.md has it.
fn hop_key(key: &[u8; 32], salt: &[u8; 16], sender: &str, receiver: &str) -> [u8; 32] {
    let info: [&[u8]; 7] =
        [b"fairway hop v1", &[0], b"encrypt", &[0], sender.as_bytes(), &[0], receiver.as_bytes()];
    let mut derived = [0; 32];
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key);
    secret.expand(&info, hkdf::HKDF_SHA256).unwrap().fill(&mut derived).unwrap();
    derived
}

/// The key that AES-256-GCM seals with, as docs/wire.md has it.
fn sealing_key(told: &Told) -> [u8; 32] {
    let info: [&[u8]; 7] =
        [b"fairway session v1", &[0], b"aes-gcm-256", &[0], b"forward", &[0], &told.salt[15..]];
    let mut material = [0; 36];
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &told.salt).extract(&told.secret);
    secret.expand(&info, Length).unwrap().fill(&mut material).unwrap();
    *material.first_chunk().unwrap()
}

#[test]
fn the_keys_of_a_session_that_ended_are_nowhere_in_memory() {
    let off = serde_json::json!({ "offload": "off" });
    let Some(lab) = Fabric::new(2).link("wan1", off).raise("endedkeys") else { return };
    let key = PeerKey::parse(&fs::read(lab.path("keys/branch--dc.key")).unwrap()).unwrap();
    ping(&lab, SERVER[0]);
    let wan = Capture::start(&lab, "branch", "wan1");
    let slow = format!("curl -gsS --limit-rate 200K --max-time 60 -o /dev/null {}", url(SERVER[0], "20m"));
    let download = lab.start("client", &["bash", "-c", &slow]);
    let begun = || !lab.sessions("dc", &["--service", "web"]).is_empty();
    assert!(poll(10, begun), "the download does not begin");
    crate::lab::pass(std::time::Duration::from_millis(700));
    let told = told(&wan.packets(), &key, "branch", "dc");
    let told = told.last().expect("metadata with a session's secret");
    let secrets = [
        secret("the session's secret", &told.secret),
        secret("half of the session's secret", &told.secret[..16]),
        secret("the sealing key", &sealing_key(told)),
    ];
    for router in lab.routers() {
        let found = found_in_memory(lab.pid(&router), &secrets);
        assert!(found.iter().all(|(_, count)| *count > 0), "{router} has a session without keys: {found:?}");
        eprintln!("while it lasts, in {router}: {found:?}");
    }
    drop(download);
    for router in lab.routers() {
        fairway(&["delete", "session", "--all", "--yes", "--socket", &lab.socket(&router)]).ok();
        assert!(lab.sessions(&router, &[]).is_empty());
    }
    for router in lab.routers() {
        assert_forgotten(&lab, &router, &secrets);
    }
}

#[test]
fn nothing_that_a_router_says_has_a_secret() {
    let Some(lab) = Fabric::new(2).raise("said") else { return };
    let key = random_key();
    write_key(&lab, &hex(&key));
    // Everything is said at the level for developers, too.
    lab.end_router("branch", "-TERM");
    let (config, socket, log) = (lab.path("config.json"), lab.socket("branch"), lab.path("said.log"));
    let program = env!("CARGO_BIN_EXE_fairway");
    let command = format!(
        "exec {program} router --config {config} --name branch --socket {socket} --log-level debug \
         --session-log {log} --metrics 127.0.0.1:9469 2>{log}.err"
    );
    let router = lab.start("branch", &["bash", "-c", &command]);
    assert!(poll(10, || fs::exists(&socket).unwrap()), "the router does not start");
    lab.reload("dc").ok();
    let wan = Capture::start(&lab, "branch", "wan1");
    lab.wait_for_paths(20);
    let mut said = String::new();
    let mut tell = |what: &str, text: &str| {
        assert!(text.len() > 10, "{what} says nothing");
        said.push_str(text);
    };
    let capture = format!("timeout 8 {program} capture --socket {socket} -w {log}.pcapng");
    let capturing = lab.start("branch", &["bash", "-c", &capture]);
    for to in SERVER {
        page(&lab, to);
        ping(&lab, to);
        assert!(shell(&lab, to, "echo done").stdout.contains("done"));
    }
    for what in
        ["status", "sessions", "flows", "fib", "peers", "interfaces", "waypoints", "limits", "counters"]
    {
        tell(what, &fairway(&["show", what, "--json", "--socket", &socket]).ok().stdout);
        tell(what, &fairway(&["show", what, "--socket", &socket]).ok().stdout);
    }
    // Refusals are where values are repeated.
    write_key(&lab, &format!("{}0\n", hex(&key)));
    tell("a reload that is refused", &lab.reload("branch").text());
    write_key(&lab, &hex(&key));
    lab.reload("branch").ok();
    let metrics = lab.run("branch", &["curl", "-sS", "http://127.0.0.1:9469/metrics"]).ok();
    tell("metrics", &metrics.stdout);
    let bundle = lab.path("bundle.tar.gz");
    fairway(&["support-bundle", "--socket", &socket, "-o", &bundle]).ok();
    tell("the bundle", &lab.run("client", &["tar", "-xzOf", &bundle]).ok().stdout);
    capturing.wait(20);
    router.interrupt();
    tell("the log", &fs::read_to_string(format!("{log}.err")).unwrap());
    tell("the session log", &fs::read_to_string(&log).unwrap());
    let peer_key = PeerKey::from_bytes(key);
    let told = told(&wan.packets(), &peer_key, "branch", "dc");
    assert!(told.len() >= 4, "{} sessions", told.len());
    let mut secrets = spellings("the key", &key);
    for told in &told {
        secrets.extend(spellings("a session's secret", &told.secret));
    }
    let mut bytes = said.into_bytes();
    bytes.extend(fs::read(format!("{log}.pcapng")).unwrap());
    for secret in &secrets {
        let shown = bytes.windows(secret.bytes.len()).any(|window| window == secret.bytes);
        assert!(!shown, "{} is among what the router says", secret.name);
    }
}
