package main

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"directnode/resolver"
)

const (
	recordFile = "record.json"
	reportFile = "report.json"
	// maxEvidence bounds a record that is read: one revocation list of the largest kind, in Base64, and all the rest.
	maxEvidence = 128 << 20
)

// saveEvidence writes what was heard and what was made of it, for somebody else to look at: the record that --replay judges again, the
// report, and certificates, lists and responses as files that other tools read.
func saveEvidence(path string, r resolver.Report, rec *resolver.Record) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z := zip.NewWriter(f)
	if err := addJSON(z, reportFile, r); err != nil {
		return err
	}
	if rec != nil {
		if err := addJSON(z, recordFile, rec); err != nil {
			return err
		}
		for _, file := range rec.Files() {
			w, err := z.Create(file.Name)
			if err != nil {
				return err
			}
			if _, err := w.Write(file.Data); err != nil {
				return err
			}
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

func addJSON(z *zip.Writer, name string, v any) error {
	w, err := z.Create(name)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// readEvidence reads the record out of what saveEvidence wrote. The file may come from anybody.
func readEvidence(path string) (*resolver.Record, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer z.Close()
	f, err := z.Open(recordFile)
	if err != nil {
		return nil, fmt.Errorf("%s holds no %s: it was saved without what was heard", path, recordFile)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxEvidence+1))
	if err == nil && len(raw) > maxEvidence {
		err = fmt.Errorf("%s has more than %d octets", recordFile, maxEvidence)
	}
	rec := new(resolver.Record)
	if err == nil {
		err = json.Unmarshal(raw, rec)
	}
	return rec, errors.Join(err)
}
