package verify_test

// Why we answer otherwise than x509-limbo.
const (
	aWebRule   = "a rule of the public web, which was not asked for"
	bothWays   = "two cases of the suite want opposite answers; the option chooses"
	commonName = "the web's rules want the common name among the alternative names (webpki::cn cases), and here it is not"
	selfIssue  = "x509 counts and constrains self-issued CAs as others; errs on the safe side"
	otherNames = "x509 applies no constraints on directory and other names, and refuses a CA that has them critical; errs on the safe side"
)

// With the option the three cases of wildcards over public suffixes are answered as the suite wants, two of them for
// their common names: suffixes are not known, since a list of them is out of date once it is compiled in.

// limboReasons says for either value of the option which cases we answer otherwise, and why.
var limboReasons = map[bool]map[string]string{
	false: {
		"cve::cve-2024-0567":                          "the trusted root is cross-signed and names no issuer's key, which rfc5280::aki::cross-signed-root-missing-aki wants refused",
		"pathlen::self-issued-certs-pathlen":          selfIssue,
		"rfc5280::nc::permitted-self-issued":          selfIssue,
		"rfc5280::nc::permitted-dn-match":             otherNames,
		"rfc5280::nc::nc-forbids-othername-noop":      otherNames,
		"rfc5280::pc::ica-noncritical-pc":             "policy constraints are obeyed whether critical or not; valid certificates have them so",
		"webpki::nc::permitted-dns-match-noncritical": bothWays,

		"webpki::aki::root-with-aki-missing-keyidentifier":          aWebRule,
		"webpki::aki::root-with-aki-authoritycertissuer":            aWebRule,
		"webpki::aki::root-with-aki-authoritycertserialnumber":      aWebRule,
		"webpki::aki::root-with-aki-all-fields":                     aWebRule,
		"webpki::cn::ipv4-hex-mismatch":                             aWebRule,
		"webpki::cn::ipv4-leading-zeros-mismatch":                   aWebRule,
		"webpki::cn::ipv6-uppercase-mismatch":                       aWebRule,
		"webpki::cn::ipv6-uncompressed-mismatch":                    aWebRule,
		"webpki::cn::ipv6-non-rfc5952-mismatch":                     aWebRule,
		"webpki::cn::punycode-not-in-san":                           aWebRule,
		"webpki::cn::utf8-vs-punycode-mismatch":                     aWebRule,
		"webpki::cn::not-in-san":                                    aWebRule,
		"webpki::cn::case-mismatch":                                 aWebRule,
		"webpki::eku::ee-anyeku":                                    aWebRule,
		"webpki::eku::ee-critical-eku":                              aWebRule,
		"webpki::eku::ee-without-eku":                               bothWays,
		"webpki::eku::root-has-eku":                                 aWebRule,
		"webpki::san::public-suffix-wildcard-san":                   aWebRule,
		"webpki::san::public-suffix-multi-label-wildcard-san":       aWebRule,
		"webpki::san::public-suffix-private-namespace-wildcard-san": aWebRule,
		"webpki::san::san-critical-with-nonempty-subject":           aWebRule,
		"webpki::ca-as-leaf":                                        bothWays,
	},
	true: {
		"cve::cve-2024-0567":                           "the trusted root is cross-signed and names no issuer's key, which rfc5280::aki::cross-signed-root-missing-aki wants refused",
		"pathlen::self-issued-certs-pathlen":           selfIssue,
		"rfc5280::nc::permitted-self-issued":           selfIssue,
		"rfc5280::nc::nc-forbids-othername-noop":       otherNames,
		"rfc5280::nc::permitted-dn-match":              otherNames,
		"rfc5280::pc::ica-noncritical-pc":              "policy constraints are obeyed whether critical or not; valid certificates have them so",
		"pathlen::validation-ignores-pathlen-in-leaf":  "the leaf is a CA, which webpki::ee-basicconstraints-ca wants refused",
		"rfc5280::eku::ee-without-eku":                 bothWays,
		"rfc5280::ca-as-leaf":                          bothWays,
		"rfc5280::nc::permitted-dns-match-noncritical": bothWays,
		"rfc5280::nc::permitted-dns-match-more":        commonName,
		"rfc5280::nc::permitted-ipv4-match":            commonName,
		"rfc5280::nc::permitted-ipv6-match":            commonName,
		"webpki::nc::nc-permits-dns-san-pattern":       commonName,
		"webpki::san::exact-localhost-ip-san":          commonName,
		"webpki::san::leftmost-wildcard-san":           commonName,
	},
}
