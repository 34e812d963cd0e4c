pub(crate) fn check(_: &crate::Authority, _: bool) -> Vec<crate::Fault> {
    Vec::new()
}
