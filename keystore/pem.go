package keystore

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Element is one PEM element of a file (RFC 7468). Printing one shows its type, place and size, never what it holds.
type Element struct {
	Type  string // what its frame says: "CERTIFICATE"
	Bytes []byte // DER, as yet unread
	Line  int    // of its BEGIN line, counted from 1
	Text  string // the explanatory text before it, "" if there is none but white space
}

// Format shows nothing of the content under any verb: it may be a private key.
func (e Element) Format(f fmt.State, _ rune) { io.WriteString(f, e.place()) }

func (e Element) place() string { return fmt.Sprintf("line %d: %.40q", e.Line, e.Type) }

// ParsePEM splits a file into its elements. It is strict where encoding/pem passes over what it cannot read: each
// broken element is an error of its own in the one returned, with its line; so are a frame without its other half,
// headers (RFC 1421; PEM of today has none), and text after the last element. Where there is any error there are no
// elements: half a bundle is none. A file has at most 1 MiB. Text before an element is allowed (RFC 7468 §2), and
// returned with it.
func ParsePEM(data []byte) ([]Element, error) {
	elements, err := parsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	return elements, nil
}

func parsePEM(data []byte) ([]Element, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%d bytes of PEM, at most %d", len(data), maxFile)
	}
	s := pemScanner{rest: data}
	for s.scan() {
	}
	if err := s.err(); err != nil {
		for _, e := range s.elements {
			clear(e.Bytes)
		}
		return nil, err
	}
	return s.elements, nil
}

// pemScanner goes through a file line by line. No error of it quotes a line: it may be half of a key.
type pemScanner struct {
	rest     []byte
	line     int // of what next returned last
	text     []byte
	textLine int // where text begins
	elements []Element
	broken   []error
}

// next takes one line off, without its end and white space at its end.
func (s *pemScanner) next() (line []byte, ok bool) {
	if len(s.rest) == 0 {
		return nil, false
	}
	line, s.rest, _ = bytes.Cut(s.rest, []byte("\n"))
	s.line++
	return bytes.TrimRight(line, " \t\r"), true
}

// scan takes a line outside elements, and the element that it begins.
func (s *pemScanner) scan() bool {
	line, ok := s.next()
	if !ok || len(s.broken) >= maxBroken {
		return false
	}
	kind, begins := frameLine(line, "BEGIN ")
	switch {
	case begins:
		s.element(kind)
	case looksFramed(line):
		s.breaks(s.line, "a line that frames no element: its BEGIN is missing or misspelt")
	default:
		if len(s.text) == 0 {
			s.textLine = s.line
		}
		if s.text = append(s.text, line...); len(s.text) > 0 {
			s.text = append(s.text, '\n')
		}
	}
	return true
}

// element takes what follows a BEGIN line, up to its END. Where that is missing the next BEGIN is left to be read.
func (s *pemScanner) element(kind string) {
	e := Element{Type: kind, Line: s.line, Text: string(s.text)}
	s.text = nil
	body := make([]byte, 0, s.bodySize())
	defer clear(body[:cap(body)])
	wrong := ""
	for {
		before, count := s.rest, s.line
		line, ok := s.next()
		end, ends := frameLine(line, "END ")
		switch {
		case !ok:
			s.breaks(e.Line, "%.40q without an END line: it was cut off", kind)
			return
		case ends && end != kind:
			s.breaks(e.Line, "%.40q ends as %.40q", kind, end)
			return
		case ends:
			s.finish(e, body, wrong)
			return
		case looksFramed(line):
			s.breaks(e.Line, "%.40q without an END line before line %d", kind, s.line)
			s.rest, s.line = before, count
			if _, begins := frameLine(line, "BEGIN "); !begins {
				s.next()
			}
			return
		case bytes.IndexByte(line, ':') >= 0:
			wrong = "has headers, which PEM of today has none of: if it is encrypted, openssl pkcs8 -topk8 converts it"
		}
		body = append(body, bytes.TrimLeft(line, " \t")...)
	}
}

// bodySize is the room that an element's text needs at most, so that no buffer grows and leaves a key behind.
func (s *pemScanner) bodySize() int {
	if end := bytes.Index(s.rest, []byte("-----")); end >= 0 {
		return end
	}
	return len(s.rest)
}

func (s *pemScanner) finish(e Element, body []byte, wrong string) {
	if wrong != "" {
		s.breaks(e.Line, "%.40q %s", e.Type, wrong)
		return
	}
	e.Bytes = make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	n, err := base64.StdEncoding.Strict().Decode(e.Bytes, body)
	switch {
	case err != nil:
		clear(e.Bytes)
		s.breaks(e.Line, "%.40q is not whole base64", e.Type)
		return
	case n == 0:
		s.breaks(e.Line, "%.40q is empty", e.Type)
		return
	}
	e.Bytes = e.Bytes[:n]
	s.elements = append(s.elements, e)
}

func (s *pemScanner) breaks(line int, format string, values ...any) {
	s.broken = append(s.broken, fmt.Errorf("line %d: "+format, append([]any{line}, values...)...))
	s.text = nil
}

func (s *pemScanner) err() error {
	switch {
	case len(s.broken) >= maxBroken:
		s.broken = append(s.broken, fmt.Errorf("and so on after %d broken elements", maxBroken))
	case len(s.broken) == 0 && len(s.elements) == 0:
		return errors.New("no PEM element: it is empty, cut off, or not PEM")
	case len(s.text) > 0:
		s.breaks(s.textLine, "%d bytes of text after the last element", len(s.text))
	}
	return errors.Join(s.broken...)
}

// frameLine reads -----BEGIN label----- or the same with END (RFC 7468 §3).
func frameLine(line []byte, what string) (label string, ok bool) {
	inner, ok := strings.CutPrefix(string(line[:min(len(line), maxFrame)]), "-----"+what)
	if !ok {
		return "", false
	}
	label, ok = strings.CutSuffix(inner, "-----")
	for _, c := range label {
		ok = ok && c >= ' ' && c <= '~'
	}
	return label, ok && label == strings.Trim(label, " -") && label != "" && !strings.Contains(label, "--")
}

// looksFramed reports whether a line is, or may be meant as, the frame of an element. A rule of hyphens is not.
func looksFramed(line []byte) bool {
	line = bytes.TrimSpace(line)
	framed := bytes.HasPrefix(line, []byte("--")) || bytes.HasSuffix(line, []byte("--"))
	return framed && len(bytes.Trim(line, "-")) > 0
}
