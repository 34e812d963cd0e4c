//! What programs are asked to do, and what counts as right.

use serde_json::Value;

use crate::lab::{Done, Lab};

/// An address as part of a URL.
pub fn url(address: &str, file: &str) -> String {
    if address.contains(':') {
        format!("http://[{address}]/{file}")
    } else {
        format!("http://{address}/{file}")
    }
}

/// Three pings, of which none may be lost.
#[track_caller]
pub fn ping(lab: &Lab, to: &str) {
    let done = lab.run("client", &["ping", "-c", "3", "-i", "0.1", "-W", "2", to]).ok();
    assert!(done.stdout.contains(" 0% packet loss"), "{}", done.text());
}

/// The page.
#[track_caller]
pub fn page(lab: &Lab, to: &str) {
    let done = lab.run("client", &["curl", "-gsS", "--max-time", "10", &url(to, "")]).ok();
    assert_eq!(done.stdout, "hello from the data centre\n");
}

/// The hash of a file of the server, there.
#[track_caller]
pub fn hash(lab: &Lab, file: &str) -> String {
    let done = lab.run("server", &["sha256sum", &lab.path(&format!("server/www/{file}"))]).ok();
    done.stdout.split(' ').next().unwrap().to_owned()
}

/// A command that downloads a file and prints its hash.
pub fn downloader(to: &str, file: &str, options: &str) -> String {
    format!("set -o pipefail; curl -gsS --fail {options} {} | sha256sum | cut -d' ' -f1", url(to, file))
}

/// A file, which arrives as it is.
#[track_caller]
pub fn download(lab: &Lab, to: &str, file: &str) {
    let done = lab.run("client", &["bash", "-c", &downloader(to, file, "--max-time 25")]).ok();
    assert_eq!(done.stdout.trim(), hash(lab, file), "the hash of {file} from {to}");
}

/// A name, over UDP or TCP.
#[track_caller]
pub fn lookup(lab: &Lab, to: &str, options: &[&str]) {
    let server = format!("@{to}");
    let command =
        [&["dig", "+short", "+time=3", "+tries=1"], options, &[server.as_str(), "web.test"]].concat();
    assert_eq!(lab.run("client", &command).ok().stdout, "10.2.0.10\n");
}

/// The options of ssh, for the keys that the server made.
pub fn ssh_options(lab: &Lab, node: &str) -> Vec<String> {
    let key = lab.path(&format!("{node}/client_key"));
    let options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
                   -o LogLevel=ERROR -o ConnectTimeout=10 -i";
    options.split_whitespace().map(str::to_owned).chain([key]).collect()
}

/// A command in a shell of the server.
#[track_caller]
pub fn shell(lab: &Lab, to: &str, command: &str) -> Done {
    let options = ssh_options(lab, "server");
    let words: Vec<&str> =
        ["ssh"].into_iter().chain(options.iter().map(String::as_str)).chain([to, command]).collect();
    lab.run("client", &words).ok()
}

/// One run of iperf3; what its JSON has under `end`, or nothing when it did not come about: its server
/// serves one at a time, and with `-J` the exit code says little.
pub fn try_iperf(lab: &Lab, seconds: u64, to: &str, options: &[&str]) -> Result<Value, String> {
    let done = lab.run_for(seconds, "client", &[&["iperf3", "-J", "-c", to], options].concat());
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
    let complete =
        report["error"].is_null() && report["end"]["streams"].as_array().is_some_and(|all| !all.is_empty());
    if done.code == 0 && complete { Ok(report["end"].clone()) } else { Err(done.text()) }
}

/// iperf3; what its JSON has under `end`.
#[track_caller]
pub fn iperf(lab: &Lab, to: &str, options: &[&str]) -> Value {
    let mut last = String::new();
    for _ in 0..3 {
        match try_iperf(lab, 30, to, options) {
            Ok(end) => return end,
            Err(text) => last = text,
        }
    }
    panic!("iperf3 {options:?} to {to}: {last}");
}

/// Every program, once. IPv4 and IPv6 servers alike.
#[track_caller]
pub fn all(lab: &Lab, to: &str) {
    ping(lab, to);
    page(lab, to);
    download(lab, to, "10m");
    lookup(lab, to, &["+notcp"]);
    lookup(lab, to, &["+tcp"]);
    let greeting = shell(lab, to, "echo from $SSH_CONNECTION").stdout;
    assert!(greeting.starts_with("from ") && greeting.contains(to), "{greeting}");
    let tcp = iperf(lab, to, &["-t", "1"]);
    let rate = tcp["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0);
    assert!(rate > 5e6, "iperf3 TCP to {to}: {rate} bit/s");
    let (overrun, overflown) = (lab.overruns(), lab.socket_overflows());
    let udp = iperf(lab, to, &["-t", "1", "-u", "-b", "10M", "-l", "1200"]);
    let (overrun, overflown) = (lab.overruns() - overrun, lab.socket_overflows() - overflown);
    let lost = udp["sum"]["lost_packets"].as_u64().unwrap();
    // On a busy machine iperf3 itself may be late; the routers may not.
    assert!(
        overrun == 0 && lost <= overflown,
        "iperf3 UDP to {to}: {lost} lost, {overflown} of them in its socket, {overrun} overran a router: {}",
        udp["sum"]
    );
}
