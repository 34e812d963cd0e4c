//! The kernel's view of devices, addresses, routes and neighbours, kept live over rtnetlink.

mod device;
pub(crate) mod message;
mod requests;
mod state;

pub(crate) use self::device::{Features, has_zero_copy, sends_frames};
pub(crate) use self::message::Link;
pub(crate) use self::requests::{Requests, install_filter, remove_filter};
pub(crate) use self::state::{Change, Place, State, is_own};

use core::net::IpAddr;
use std::io;
use std::os::fd::BorrowedFd;

use self::message::{Report, family, kind, reports};
use crate::sys::netlink::{DATAGRAM, Socket};

/// `RTNLGRP_*`: links, neighbours, IPv4 and IPv6 addresses and routes.
const GROUPS: [libc::c_uint; 6] = [1, 3, 5, 7, 9, 11];
/// How many datagrams one call takes before packets have their turn again.
const DATAGRAMS: usize = 256;

/// A live copy of the kernel's state.
pub(crate) struct Watch {
    changes: Socket,
    /// Told of what devices can do, if this kernel tells.
    abilities: Option<Socket>,
    requests: Requests,
    state: State,
    buffer: Vec<u8>,
}

impl Watch {
    /// Subscribes, then reads everything: no change is missed in between.
    pub(crate) fn open() -> io::Result<Self> {
        let changes = Socket::for_changes(&GROUPS)?;
        let abilities = device::ability_changes().ok();
        let (requests, buffer) = (Requests::open()?, vec![0; DATAGRAM]);
        let mut watch = Self { changes, abilities, requests, state: State::default(), buffer };
        watch.read_all()?;
        Ok(watch)
    }

    /// The copy.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The copy, to enter what this process itself knows of own links.
    pub(crate) fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Requests that change something.
    pub(crate) fn requests(&mut self) -> &mut Requests {
        &mut self.requests
    }

    /// One of them is readable when something changed.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.changes].into_iter().chain(&self.abilities).map(Socket::fd)
    }

    /// Takes in what was reported, and says what it concerns. When reports were lost, everything is
    /// read anew.
    pub(crate) fn update(&mut self, changed: &mut impl FnMut(Change)) -> io::Result<()> {
        let Self { abilities, buffer, .. } = self;
        for _ in 0..DATAGRAMS {
            // Whoever wants to know asks the device: also when reports were lost.
            match abilities.as_ref().map(|socket| socket.receive(buffer)) {
                None => break,
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Some(_) => changed(Change::Abilities),
            }
        }
        for _ in 0..DATAGRAMS {
            let length = match self.changes.receive(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.read_all()?;
                    changed(Change::Everything);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (_, report) in reports(self.buffer.get(..length).unwrap_or_default()) {
                if let Some(change) = report.and_then(|report| self.state.apply(report)) {
                    changed(change);
                }
            }
        }
        if self.state.routes_doubtful() {
            self.read_routes()?;
            changed(Change::Routes);
        }
        Ok(())
    }

    /// Reads everything anew, also without a report.
    pub(crate) fn read_all(&mut self) -> io::Result<()> {
        self.state.clear();
        for kind in [kind::GET_LINK, kind::GET_ADDRESS, kind::GET_NEIGHBOUR] {
            self.dump(kind)?;
        }
        self.read_routes()
    }

    fn read_routes(&mut self) -> io::Result<()> {
        self.state.clear_routes();
        self.dump(kind::GET_ROUTE)
    }

    fn dump(&mut self, kind: u16) -> io::Result<()> {
        let Self { requests, state, buffer, .. } = self;
        requests.dump(kind, buffer, |report| {
            // A report of a dump never counts as a replacement.
            let report = match report {
                Report::Routes { routes, .. } => Report::Routes { routes, replace: false },
                other => other,
            };
            state.apply(report);
        })
    }

    /// Asks the kernel to find out, or confirm, a neighbour's link address. The answer comes as a
    /// report.
    pub(crate) fn solicit(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut header = [0u8; 12];
        header[0] = family(address);
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[10] = libc::NTF_USE;
        const DESTINATION: u16 = 1;
        let request = message::Request::new(kind::NEW_NEIGHBOUR, message::flag::CREATE, 0, &header)
            .address(DESTINATION, address);
        self.changes.send(&request.finish())
    }
}
