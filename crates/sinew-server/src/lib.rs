//! What every gRPC server of the mesh gets: limits, health, reflection, auth, deadline, drain.
