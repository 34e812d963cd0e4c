//! What the engine counts beside drops. Each counter only rises.

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal,)+) => {
        /// A count of something that happened, other than a drop.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Counter { $($(#[doc = $help])+ $variant,)+ }

        impl Counter {
            /// All counters, in the order they are shown.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name on screens, in metrics and in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for help texts and metrics.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($help,)+),)+ }
            }
        }
    };
}

counters! {
    /// Packets given to the engine.
    PacketsReceived = "packets-received",
    /// Packets the engine forwarded.
    PacketsForwarded = "packets-forwarded",
    /// Bytes of the packets the engine forwarded, from the IP header on.
    BytesForwarded = "bytes-forwarded",
    /// Packets handed to the host's own network stack.
    PacketsPunted = "packets-punted",
    /// Packets the engine absorbed: control messages, and packets replaced by emitted ones.
    PacketsConsumed = "packets-consumed",
    /// Packets that a worker handed over to another, which owns their flow.
    PacketsHandedOver = "packets-handed-over",
    /// Packets that a worker took over from another.
    PacketsTakenOver = "packets-taken-over",
    /// Packets held back until another worker had handed over what came before them.
    PacketsHeldForOrder = "packets-held-for-order",
    /// Packets and flows that went on although something sent before them may have been behind.
    OrderUncertain = "order-uncertain",
    /// Packets the kernel forwarded by itself; the other counters have them, too.
    PacketsOffloaded = "packets-offloaded",
    /// Sessions that the kernel was told to forward by itself.
    SessionsOffloaded = "sessions-offloaded",
    /// Sessions that the kernel did not take: no room, a next hop or an interface it cannot use.
    OffloadsRefused = "offloads-refused",
    /// Sessions taken back from the kernel because they are over.
    OffloadsClosed = "offloads-closed",
    /// Sessions taken back from the kernel because nothing was sent for their idle timeout.
    OffloadsIdle = "offloads-idle",
    /// Sessions taken back from the kernel because a neighbouring router has to be told of them again.
    OffloadsRetold = "offloads-retold",
    /// Sessions taken back from the kernel because configuration, paths, devices or next hops changed.
    OffloadsChanged = "offloads-changed",
    /// Packets the engine made itself.
    PacketsEmitted = "packets-emitted",
    /// Super-packets cut into segments because each had to go by itself.
    SuperPacketsSegmented = "super-packets-segmented",
    /// Super-packets whose payload was sealed and that went on as super-packets.
    SuperPacketsSealed = "super-packets-sealed",
    /// Super-packets whose payload was opened and that went on as super-packets.
    SuperPacketsOpened = "super-packets-opened",
    /// Packets that left in one super-packet with one that came before them.
    PacketsGathered = "packets-gathered",
    /// Fragments of hosts, and pieces of peers, kept until the rest of their packet comes.
    FragmentsHeld = "fragments-held",
    /// Kept fragments and pieces that were dropped after all; the reason is counted among the drops.
    FragmentsDiscarded = "fragments-discarded",
    /// Packets put together from fragments or pieces.
    PacketsReassembled = "packets-reassembled",
    /// Packets sent in pieces to a peer, or in fragments to a host.
    PacketsFragmented = "packets-fragmented",
    /// Sessions created.
    SessionsCreated = "sessions-created",
    /// Sessions removed because nothing was sent for their idle timeout.
    SessionsExpired = "sessions-expired",
    /// Sessions removed after both sides closed, or one reset.
    SessionsClosed = "sessions-closed",
    /// Sessions removed by an operator, a peer's delete message or a change of policy.
    SessionsDeleted = "sessions-deleted",
    /// Sessions replaced by a new one on the same tuple.
    SessionsReplaced = "sessions-replaced",
    /// Sessions lost by a restart of this router, where they began, and given back by the next router.
    SessionsResumed = "sessions-resumed",
    /// Sessions without an answer, or finished, that made room for new ones at a limit.
    SessionsEvicted = "sessions-evicted",
    /// Sessions whose outer tuples moved.
    SessionsMoved = "sessions-moved",
    /// Sessions that began to send metadata again.
    SessionsRetriggered = "sessions-retriggered",
    /// Packets sent with metadata.
    MetadataSent = "metadata-sent",
    /// Packets received with valid metadata.
    MetadataReceived = "metadata-received",
    /// Metadata packets sent ahead because the packet would have become too big with it.
    MetadataSentAhead = "metadata-sent-ahead",
    /// Empty metadata headers that were put before, or taken off, a payload that looked like metadata.
    FalsePositives = "false-positives",
    /// TLVs of unknown type that were skipped.
    UnknownTlvs = "unknown-tlvs",
    /// Control messages sent (TLV 24).
    ControlSent = "control-sent",
    /// Control messages received and processed (TLV 24).
    ControlReceived = "control-received",
    /// Payloads sealed where their session enters the fabric.
    PayloadsSealed = "payloads-sealed",
    /// Payloads verified, and decrypted, where their session leaves the fabric.
    PayloadsOpened = "payloads-opened",
    /// Directions of sessions left as they are because they are encrypted already.
    DirectionsClear = "directions-clear",
    /// Directions of sessions sealed because they are not encrypted already.
    DirectionsSealed = "directions-sealed",
    /// Sessions whose keys began anew because a router on the way may have lost its state.
    SessionKeysRenewed = "session-keys-renewed",
    /// SYNs whose maximum segment size was lowered to fit the fabric.
    SegmentSizesLowered = "segment-sizes-lowered",
    /// ICMP errors made by this router.
    IcmpErrorsSent = "icmp-errors-sent",
    /// Paths that carry less than their link, as a router on them said.
    PathMtusLowered = "path-mtus-lowered",
    /// ICMP errors relayed to the session they belong to.
    IcmpErrorsRelayed = "icmp-errors-relayed",
    /// TCP resets made by this router.
    TcpResetsSent = "tcp-resets-sent",
    /// Answers that were due but withheld by a rate limit.
    AnswersLimited = "answers-limited",
    /// Lines of the session log that were lost because they could not be written in time.
    SessionRecordsLost = "session-records-lost",
    /// Configurations applied.
    Reloads = "reloads",
}

/// One value for each [`Counter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; Counter::ALL.len()])
    }
}

impl Counters {
    /// Adds one.
    pub fn increment(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `count`.
    pub fn add(&mut self, counter: Counter, count: u64) {
        self.0[counter as usize] += count;
    }

    /// The present value.
    #[must_use]
    pub fn value(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// All counters with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter, self.value(counter)))
    }
}
