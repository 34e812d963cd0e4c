//! Packet I/O on Linux: packet sockets, the classifier, netlink and TUN.
