# Tells what Spack's merged configuration means for an environment that is
# installed, as JSON on the last line. The argument is the environment's directory.
# Spack 0.22 and newer run it ("spack python").
import json
import os
import sys

import spack.config
import spack.environment as ev
import spack.environment.shell as shell
import spack.modules
import spack.util.environment as environment

env = ev.Environment(sys.argv[1])
view = "default" if env.has_view("default") else None

# Specs of groups with "explicit: false" are what "spack gc" removes.
implicit = set()
if hasattr(env, "explicit_roots"):
    implicit = {x.hash for x in env.concretized_roots} - {x.hash for x in env.explicit_roots()}
if implicit:
    roots = env.concrete_roots
    env.concrete_roots = lambda: [s for s in roots() if s.dag_hash() not in implicit]

# What is put before or after a value stands there as such, so that an addition can
# be told from what is set.
before = "/before.pdibuild"
changes = shell.activate(env, view=view)
additions = (environment.PrependPath, environment.AppendPath)
base = {c.name: before for c in changes.env_modifications if isinstance(c, additions) and c.separator == ":"}



def has_packages(view):
    """Whether Spack has anything to put into a view."""
    try:
        roots = env.concrete_roots()
        if getattr(view, "groups", None) is not None:
            roots = [c for g in view.groups for _, c in env.concretized_specs_by(group=g)]
        return any(not s.external for s in view.specs_for_view(roots))
    except Exception:
        return False  # another version of Spack


def module_files(set_name, kind):
    """The files of a set of modules by the packages' hashes, and where "module"
    has to look for them."""
    files, folders = {}, set()
    for spec in env.all_specs():
        if spec.external or not spec.installed:
            continue
        try:
            layout = spack.modules.module_types[kind].from_spec(spec, set_name).layout
            name, folder = layout.filename, layout.arch_dirname
        except Exception:
            continue  # Spack has warned that there is none
        if not os.path.exists(name):
            continue  # excluded by the configuration
        if getattr(layout.conf, "hierarchical", kind == "lmod"):
            folder = os.path.join(folder, "Core")
        files[spec.dag_hash()] = [f for f in (name, layout.modulerc) if os.path.exists(f)]
        if os.path.isdir(folder):
            folders.add(folder)
    return {"files": files, "folders": sorted(folders)}


modules = []
for set_name in sorted(spack.config.get("modules") or {}):
    for kind in spack.config.get("modules:%s:enable" % set_name) or []:
        modules.append(module_files(set_name, kind))

print()
print(
    json.dumps(
        {
            "views": [
                {"root": v.root, "link_type": v.link_type, "filled": has_packages(v), "text": v.to_dict()}
                for v in env.views.values()
            ],
            "implicit": sorted(implicit),
            "modules": modules,
            "before": base,
            "script": changes.shell_modifications("sh", explicit=True, env=dict(base)),
            "target_given": "target" in str(spack.config.get("packages:all")),
            "tree": spack.config.get("config:install_tree:root"),
            "upstreams": sorted(u["install_tree"] for u in (spack.config.get("upstreams") or {}).values()),
        }
    )
)
