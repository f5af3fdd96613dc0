package builder

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pdidev/pdibuild/pkg/cache"
	"github.com/pdidev/pdibuild/pkg/recipe"
)

// leaked completes the error about a secret that this step would have stored.
func (x *stepRun) leaked(leak LeakError) error {
	leak.Stage, leak.Step, leak.Text, leak.LogFile = x.stage.Name, x.n, x.planned.Text, x.log
	if x.log != "" {
		leak.NotKept = notKeptSecret
	}
	x.noteNotKept(notKeptSecret)
	return &leak
}

// searchRecord names the step in its record, which is on the disk and goes to
// step caches, and makes sure that it has no secret.
func (x *stepRun) searchRecord(rec *cache.Record) error {
	rec.Text = x.run.secrets.Mask(x.planned.Text)
	if hit, ok := x.run.secrets.Find(rec.Data); ok {
		return &LeakError{SecretID: hit.ID, Where: "what is noted about the step's result", Form: hit.Form}
	}
	return nil
}

// searchImage searches what an image says about itself.
func (r *run) searchImage(s state, config, manifest []byte) error {
	for where, data := range map[string][]byte{"the image configuration": config, "the image manifest": manifest} {
		if hit, ok := r.secrets.Find(data); ok {
			leak := &LeakError{Stage: r.plan.target, SecretID: hit.ID, Where: where, Form: hit.Form}
			r.locate(leak, s)
			return leak
		}
	}
	return nil
}

// locate finds the place in the recipe that a leak comes from: what a stage says
// about its image, or a step.
func (r *run) locate(leak *LeakError, s state) {
	holds := func(text string) bool {
		hit, ok := r.secrets.FindString(text)
		return ok && hit.ID == leak.SecretID
	}
	if where := labelOf(s, holds); where != "" {
		leak.Where = where
		return
	}
	if where := settingOf(s.image.Config, holds); where != "" {
		leak.Where = where
	} else if slices.ContainsFunc(s.image.History, func(h v1.History) bool { return holds(h.CreatedBy) }) {
		leak.Where = "the history of the image"
	}
	chain := r.chain()
	for _, stage := range slices.Backward(r.plan.Stages) {
		for i, planned := range stage.Steps {
			if chain[stage.Name] && stepHolds(planned, holds) {
				leak.Stage, leak.Step, leak.Text = stage.Name, i+1, planned.Text
				return
			}
		}
	}
}

// stepHolds looks at what of a step is in the configuration and the history.
func stepHolds(planned PlannedStep, holds func(string) bool) bool {
	env, _ := planned.step.(recipe.Env)
	return holds(planned.Text) || slices.ContainsFunc(slices.Collect(maps.Values(env.Env)), holds)
}

// labelOf names the label or annotation that holds something.
func labelOf(s state, holds func(string) bool) string {
	for what, texts := range map[string]map[string]string{"label": s.image.Config.Labels, "annotation": s.annotations} {
		for _, name := range slices.Sorted(maps.Keys(texts)) {
			if holds(name) || holds(texts[name]) {
				return fmt.Sprintf("the %s %s", what, name)
			}
		}
	}
	return ""
}

// settingOf names the part of a configuration that holds something, and that a
// step can have set.
func settingOf(c v1.ImageConfig, holds func(string) bool) string {
	for _, kv := range c.Env {
		if name, value, _ := strings.Cut(kv, "="); holds(value) {
			return "the variable " + name
		}
	}
	for what, value := range map[string]any{
		"the entrypoint": c.Entrypoint, "the command": c.Cmd, "the working directory": c.WorkingDir, "the user": c.User,
	} {
		data, err := json.Marshal(value)
		if err == nil && holds(string(data)) {
			return what
		}
	}
	return ""
}
