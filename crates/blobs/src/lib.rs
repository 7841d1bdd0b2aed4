//! Blob wants, slices and transfer
