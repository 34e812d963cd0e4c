//! The data model: RFC 7951 documents, validated into the model of one router.
