//! Wire formats: borrowed views and emitters for SVR metadata, IPv4, IPv6, TCP, UDP, ICMP and BFD.
