package live

// Bounds on what peers can make a member keep.
const maxRefusals = 64 // refusals remembered for the report, of different peers or reasons
