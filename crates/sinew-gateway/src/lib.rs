//! The HTTP edge of the mesh.
