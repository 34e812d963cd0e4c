//! What the running kernel can do, where nothing but its version tells beforehand.

/// Whether packet sockets and TUN devices take super-packets of datagrams (`VIRTIO_NET_HDR_GSO_UDP_L4`):
/// since Linux 6.2. Where the version cannot be read, they are taken not to.
#[must_use]
pub fn takes_udp_super_packets() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| is_since(&release, (6, 2)))
}

fn is_since(release: &str, least: (u32, u32)) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= least,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for release in ["6.2.0", "6.10.3-amd64", "7.0-rc1\n", "10.1"] {
            assert!(is_since(release, (6, 2)), "{release}");
        }
        for release in ["6.1.0-18-amd64", "5.15.0", "6", "", "next"] {
            assert!(!is_since(release, (6, 2)), "{release}");
        }
    }
}
