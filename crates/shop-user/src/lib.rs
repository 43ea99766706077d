//! The user service of the shop.
