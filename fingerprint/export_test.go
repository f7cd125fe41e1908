package fingerprint

// ApplyUnchecked is Apply without the digest that somebody signed: what a difference alone can make.
func (r *Registry) ApplyUnchecked(difference []byte) (*Registry, error) {
	return r.apply(r.version.Next(), difference)
}
