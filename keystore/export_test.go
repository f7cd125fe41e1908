package keystore

// SetRounds sets the rounds of PBKDF2 that keys are written with.
func (d *Dir) SetRounds(n int) { d.rounds = n }
