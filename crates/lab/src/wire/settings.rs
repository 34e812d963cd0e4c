//! What a wire does to the frames of one sender, and changes to it.

use serde::{Deserialize, Serialize};

use crate::quantity::{QueueLimit, Rate, Share, Span};

/// What a wire does to the frames of one sender. The default does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// How long every frame is under way.
    pub delay: Span,
    /// The delay varies, uniformly, by up to this much either way. It never reorders: a frame does
    /// not leave before the one ahead of it.
    pub jitter: Span,
    /// The share of frames that is lost.
    pub loss: Share,
    /// How many frames in a row are lost on average; 1 means each on its own (Bernoulli), more
    /// means bursts (the two-state model of Gilbert) with the same share overall.
    pub loss_burst: u32,
    /// The share of frames that arrives twice.
    pub duplicate: Share,
    /// The share of frames that is held back by [`Settings::reorder_delay`] while later ones pass.
    pub reorder: Share,
    /// How long a reordered frame is held back.
    pub reorder_delay: Span,
    /// The share of frames in which one bit behind the Ethernet header is inverted.
    pub corrupt: Share,
    /// The speed of the line, counted in bytes of Ethernet frames without preamble and checksum.
    pub rate: Rate,
    /// How much waits in front of the line; what finds it full is dropped.
    pub queue: QueueLimit,
}

/// Some settings, to lay over others: `None` leaves a setting as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Change {
    /// How long every frame is under way, such as 10ms.
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// How far the delay varies either way, such as 2ms.
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    /// The share of frames that is lost, such as 5%.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Share>,
    /// How many frames in a row are lost on average.
    #[arg(long, value_name = "FRAMES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_burst: Option<u32>,
    /// The share of frames that arrives twice.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Share>,
    /// The share of frames that is held back while later ones pass.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Share>,
    /// How long a reordered frame is held back, such as 2ms.
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder_delay: Option<Span>,
    /// The share of frames in which one bit is inverted.
    #[arg(long, value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<Share>,
    /// The speed of the line, such as 100mbit or unlimited.
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How much waits in front of the line, such as 50ms or 64kB.
    #[arg(long, value_name = "LIMIT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueLimit>,
}

/// Settings that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A frame would arrive before it was sent.
    #[error("jitter must not exceed delay: {jitter} is more than {delay}")]
    JitterExceedsDelay {
        /// The jitter.
        jitter: Span,
        /// The delay.
        delay: Span,
    },
    /// A burst of no frames.
    #[error("loss-burst must be at least 1")]
    EmptyBurst,
    /// No two-state model has that share with that length.
    #[error("loss must be below 100% when loss-burst is above 1, and bursts of {burst} cannot reach {loss}")]
    BurstTooShort {
        /// The share.
        loss: Share,
        /// The mean length.
        burst: u32,
    },
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Span::default(),
            jitter: Span::default(),
            loss: Share::default(),
            loss_burst: 1,
            duplicate: Share::default(),
            reorder: Share::default(),
            reorder_delay: Span::from_millis(2),
            corrupt: Share::default(),
            rate: Rate::UNLIMITED,
            queue: QueueLimit::default(),
        }
    }
}

impl Settings {
    /// These settings with a change laid over them.
    ///
    /// # Errors
    /// When the result contradicts itself; see [`SettingsError`].
    pub fn with(&self, change: &Change) -> Result<Self, SettingsError> {
        let settings = Self {
            delay: change.delay.unwrap_or(self.delay),
            jitter: change.jitter.unwrap_or(self.jitter),
            loss: change.loss.unwrap_or(self.loss),
            loss_burst: change.loss_burst.unwrap_or(self.loss_burst),
            duplicate: change.duplicate.unwrap_or(self.duplicate),
            reorder: change.reorder.unwrap_or(self.reorder),
            reorder_delay: change.reorder_delay.unwrap_or(self.reorder_delay),
            corrupt: change.corrupt.unwrap_or(self.corrupt),
            rate: change.rate.unwrap_or(self.rate),
            queue: change.queue.unwrap_or(self.queue),
        };
        settings.check().map(|()| settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.jitter > self.delay {
            return Err(SettingsError::JitterExceedsDelay { jitter: self.jitter, delay: self.delay });
        }
        if self.loss_burst == 0 {
            return Err(SettingsError::EmptyBurst);
        }
        if self.loss_burst > 1 && self.burst_start() > 1.0 {
            return Err(SettingsError::BurstTooShort { loss: self.loss, burst: self.loss_burst });
        }
        Ok(())
    }

    /// The probability that a burst of losses starts with a frame, when bursts are on: the share
    /// overall is then start / (start + end), with end = 1 / length (Gilbert 1960).
    pub(super) fn burst_start(&self) -> f64 {
        let loss = self.loss.fraction();
        loss / (f64::from(self.loss_burst) * (1.0 - loss))
    }

    /// The settings that differ from the default, as `name value` pairs for a screen.
    #[must_use]
    pub fn describe(&self) -> String {
        let plain = Self::default();
        let mut words = Vec::new();
        let mut say = |differs: bool, text: String| {
            if differs {
                words.push(text);
            }
        };
        say(self.delay != plain.delay, format!("delay {}", self.delay));
        say(self.jitter != plain.jitter, format!("jitter {}", self.jitter));
        say(self.loss != plain.loss, format!("loss {}", self.loss));
        say(self.loss_burst != 1, format!("in bursts of {}", self.loss_burst));
        say(self.duplicate != plain.duplicate, format!("duplicate {}", self.duplicate));
        say(self.reorder != plain.reorder, format!("reorder {} by {}", self.reorder, self.reorder_delay));
        say(self.corrupt != plain.corrupt, format!("corrupt {}", self.corrupt));
        say(self.rate != plain.rate, format!("rate {} queue {}", self.rate, self.queue));
        if words.is_empty() { "unimpaired".to_owned() } else { words.join(", ") }
    }
}

impl Change {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// This change with another laid over it.
    #[must_use]
    pub fn then(&self, later: &Self) -> Self {
        Self {
            delay: later.delay.or(self.delay),
            jitter: later.jitter.or(self.jitter),
            loss: later.loss.or(self.loss),
            loss_burst: later.loss_burst.or(self.loss_burst),
            duplicate: later.duplicate.or(self.duplicate),
            reorder: later.reorder.or(self.reorder),
            reorder_delay: later.reorder_delay.or(self.reorder_delay),
            corrupt: later.corrupt.or(self.corrupt),
            rate: later.rate.or(self.rate),
            queue: later.queue.or(self.queue),
        }
    }
}
