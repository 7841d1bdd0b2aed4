//! The reducer that decides whom to dial
