//! Requests that wait for the kernel's answer: dumps, addresses, routes, filters.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use fairway_types::IpNet;

use super::message::{Report, Request, family, flag, kind, reports};
use crate::sys::netlink::{DATAGRAM, Socket};

/// `TC_H_CLSACT`, the parent of filters at ingress below it, and the priority of ours.
const CLSACT: u32 = 0xffff_fff1;
const ROOT: u32 = 0xffff_ffff;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const PRIORITY: u32 = 0xfa1;

/// A socket for requests.
#[derive(Debug)]
pub(crate) struct Requests {
    socket: Socket,
    sequence: u32,
}

impl Requests {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::for_requests()?, sequence: 0 })
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Reads a whole table.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        buffer: &mut [u8],
        mut each: impl FnMut(Report),
    ) -> io::Result<()> {
        let sequence = self.next();
        // ifinfomsg is the longest of the family headers; the kernel reads the family from any.
        self.socket.send(&Request::new(kind, flag::DUMP, sequence, &[0; 16]).finish())?;
        loop {
            let length = self.socket.receive(buffer)?;
            for (number, report) in reports(buffer.get(..length).unwrap_or_default()) {
                match report {
                    _ if number != sequence => {}
                    Some(Report::Done) => return Ok(()),
                    Some(Report::Answer(error)) => return Err(io::Error::from_raw_os_error(error)),
                    Some(report) => each(report),
                    None => {}
                }
            }
        }
    }

    /// Sends a request and waits for its acknowledgement.
    fn request(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(Request) -> Request,
    ) -> io::Result<()> {
        let sequence = self.next();
        let request = fill(Request::new(kind, flags | flag::ACK, sequence, header));
        self.socket.send(&request.finish())?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = self.socket.receive(&mut buffer)?;
            for (number, report) in reports(buffer.get(..length).unwrap_or_default()) {
                match report {
                    Some(Report::Answer(0)) if number == sequence => return Ok(()),
                    Some(Report::Answer(error)) if number == sequence => {
                        return Err(io::Error::from_raw_os_error(error));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Sets a device up, with an MTU if one is given.
    pub(crate) fn set_up(&mut self, index: u32, mtu: Option<u16>) -> io::Result<()> {
        let mut header = [0u8; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let up = (libc::IFF_UP as u32).to_ne_bytes();
        header[8..12].copy_from_slice(&up);
        header[12..16].copy_from_slice(&up);
        self.request(kind::NEW_LINK, 0, &header, |request| match mtu {
            Some(mtu) => request.attribute(libc::IFLA_MTU, &u32::from(mtu).to_ne_bytes()),
            None => request,
        })
    }

    /// Keeps IPv6 from making up a link-local address for a device, and from looking for routers on it.
    pub(crate) fn refuse_link_local(&mut self, index: u32) -> io::Result<()> {
        const ADDR_GEN_MODE: u16 = 8; // IFLA_INET6_ADDR_GEN_MODE
        const NONE: u8 = 1; // IN6_ADDR_GEN_MODE_NONE
        let mut header = [0u8; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        self.request(kind::NEW_LINK, 0, &header, |request| {
            request.nested(libc::IFLA_AF_SPEC, |families| {
                families.nested(libc::AF_INET6 as u16, |ipv6| ipv6.attribute(ADDR_GEN_MODE, &[NONE]))
            })
        })
    }

    /// Has a device send at once, on the processor of whoever sends, without a queue.
    pub(crate) fn send_at_once(&mut self, index: u32) -> io::Result<()> {
        const KIND: u16 = 1; // TCA_KIND
        let header = tc_header(index, 0, ROOT, 0);
        self.request(kind::NEW_QDISC, flag::CREATE | flag::REPLACE, &header, |request| {
            request.attribute(KIND, b"noqueue\0")
        })
    }

    /// Gives a device an address.
    pub(crate) fn add_address(&mut self, index: u32, address: IpNet) -> io::Result<()> {
        let (header, flags) = (address_header(index, address), flag::CREATE | flag::REPLACE);
        self.request(kind::NEW_ADDRESS, flags, &header, |request| {
            request.address(libc::IFA_LOCAL, address.addr()).address(libc::IFA_ADDRESS, address.addr())
        })
    }

    /// Takes an address from a device.
    pub(crate) fn remove_address(&mut self, index: u32, address: IpNet) -> io::Result<()> {
        self.request(kind::DEL_ADDRESS, 0, &address_header(index, address), |request| {
            request.address(libc::IFA_LOCAL, address.addr())
        })
    }

    /// Routes a prefix into a device.
    pub(crate) fn add_route(&mut self, index: u32, destination: IpNet) -> io::Result<()> {
        self.route(kind::NEW_ROUTE, flag::CREATE | flag::REPLACE, index, destination)
    }

    /// Takes back [`Self::add_route`].
    pub(crate) fn remove_route(&mut self, index: u32, destination: IpNet) -> io::Result<()> {
        self.route(kind::DEL_ROUTE, 0, index, destination)
    }

    fn route(&mut self, kind: u16, flags: u16, index: u32, destination: IpNet) -> io::Result<()> {
        // struct rtmsg: family, prefix length, source length, TOS, table main, protocol static,
        // scope link, type unicast, flags.
        let length = destination.prefix_len();
        let header = [family(destination.addr()), length, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0];
        self.request(kind, flags, &header, |request| {
            request
                .address(libc::RTA_DST, destination.network())
                .attribute(libc::RTA_OIF, &index.to_ne_bytes())
        })
    }
}

fn address_header(index: u32, address: IpNet) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family(address.addr()), address.prefix_len(), 0, 0, a, b, c, d]
}

/// `struct tcmsg`.
fn tc_header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut header = [0; 20];
    for (field, value) in [(4, index), (8, handle), (12, parent), (16, info)] {
        header[field..field + 4].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

/// Where and what the filter is: priority above, ETH_P_ALL in network order below.
fn filter_header(index: u32, handle: u32) -> [u8; 20] {
    let protocol = u32::from((libc::ETH_P_ALL as u16).to_be());
    tc_header(index, handle, INGRESS, PRIORITY << 16 | protocol)
}

/// Puts a program under clsact at the ingress of a device, in place of one of the same handle left
/// there before.
pub(crate) fn install_filter(index: u32, handle: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    const KIND: u16 = 1; // TCA_KIND
    const OPTIONS: u16 = 2; // TCA_OPTIONS
    const BPF_FD: u16 = 6; // TCA_BPF_FD
    const BPF_NAME: u16 = 7; // TCA_BPF_NAME
    const BPF_FLAGS: u16 = 8; // TCA_BPF_FLAGS
    const DIRECT_ACTION: u32 = 1; // TCA_BPF_FLAG_ACT_DIRECT
    let mut requests = Requests::open()?;
    let header = tc_header(index, CLSACT_HANDLE, CLSACT, 0);
    let qdisc = requests
        .request(kind::NEW_QDISC, flag::CREATE, &header, |request| request.attribute(KIND, b"clsact\0"));
    match qdisc {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // The handle names our filter, so that a new one takes the place of an old one.
    let flags = flag::CREATE | flag::REPLACE;
    requests.request(kind::NEW_FILTER, flags, &filter_header(index, handle), |request| {
        request.attribute(KIND, b"bpf\0").nested(OPTIONS, |options| {
            options
                .attribute(BPF_FD, &program.as_raw_fd().to_ne_bytes())
                .attribute(BPF_NAME, b"fairway\0")
                .attribute(BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes())
        })
    })
}

/// Takes the program off again; other filters stay.
pub(crate) fn remove_filter(index: u32, handle: u32) -> io::Result<()> {
    const KIND: u16 = 1;
    let header = filter_header(index, handle);
    Requests::open()?.request(kind::DEL_FILTER, 0, &header, |request| request.attribute(KIND, b"bpf\0"))
}
