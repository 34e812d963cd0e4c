//! End-to-end tests: programs nobody here wrote (ping, curl, nginx, dig, dnsmasq, ssh, iperf3, nmap,
//! tcpdump) talk across real routers in network namespaces, and the routers are asked what they saw.
//!
//! Each test raises a laboratory of its own, and one runs at a time. They need root, and are skipped
//! with a word without it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Real programs take real time.
#![allow(clippy::disallowed_methods)]

mod alike;
mod attacks;
mod beyond;
mod breakout;
mod daemon;
mod denied;
mod doors;
mod fabric;
mod flood;
mod fragments;
mod icmp;
mod impaired;
mod ipsec;
mod kernel;
mod lab;
mod many;
mod matrix;
mod offloads;
mod operator;
mod pcap;
mod product;
mod programs;
mod protection;
mod recovery;
mod reload;
mod restart;
mod scan;
mod secrets;
mod vlans;
mod wire;
mod workers;
mod xdp;
