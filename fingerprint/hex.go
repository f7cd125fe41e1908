package fingerprint

// Hexadecimal digits by table, since a registry has sixty million of them.

const digits = "0123456789abcdef"

// values are the lower-case digits' values; 0xff for everything else.
var values = func() (v [256]byte) {
	for i := range v {
		v[i] = 0xff
	}
	for i := range len(digits) {
		v[digits[i]] = byte(i)
	}
	return v
}()

// unhex reads two lower-case digits for each byte of dst.
func unhex[T []byte | string](dst []byte, src T) bool {
	var all byte
	src = src[:2*len(dst)]
	for i := range dst {
		hi, lo := values[src[2*i]], values[src[2*i+1]]
		all |= hi | lo
		dst[i] = hi<<4 | lo
	}
	return all < 16
}

func appendHex(b []byte, sum []byte) []byte {
	for _, c := range sum {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}

// uuidText is how long a UUID is when it is written (RFC 9562 §4).
const uuidText = 36

// groups are where its digits stand, and the bytes that they make.
var groups = [...]struct{ text, from, to int }{{0, 0, 4}, {9, 4, 6}, {14, 6, 8}, {19, 8, 10}, {24, 10, 16}}

// parseUUID reads a UUID in lower case, of any version.
func parseUUID[T []byte | string](dst []byte, s T) bool {
	if len(s) != uuidText {
		return false
	}
	ok := s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
	for _, g := range groups {
		ok = ok && unhex(dst[g.from:g.to], s[g.text:])
	}
	return ok
}

func appendUUID(b []byte, uuid []byte) []byte {
	for i, g := range groups {
		if i > 0 {
			b = append(b, '-')
		}
		b = appendHex(b, uuid[g.from:g.to])
	}
	return b
}
