// Tests of what a container's root is made of: plans and mount tables.

import { expect, test } from "bun:test";
import { rootTable, volumeTable } from "./container-setup.ts";
import { type Entry, isHidden, type MountPoint, mountFlags, parseMountInfo, planRoot } from "./pod-root.ts";

const mount = (path: string, type = "ext4", flags: string[] = []): MountPoint => ({ path, type, flags });
const folder = (name: string, readable = true): Entry => ({ name, kind: "folder", readable });

test("mountinfo lines give path, type and the flags a remount must keep", () => {
  const text =
    "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n31 22 0:26 / /mnt/my\\040disk rw,nosuid,nodev shared:5 master:1 - xfs /dev/sdb rw\n";
  expect(parseMountInfo(text)).toEqual([mount("/"), mount("/mnt/my disk", "xfs", ["nosuid", "nodev"])]);
});

test("the flags of a path are those of the innermost mount above it", () => {
  const mounts = [mount("/"), mount("/tmp", "tmpfs", ["nosuid", "nodev"]), mount("/tmp/in", "ext4", ["noexec"])];
  expect(mountFlags("/tmp/a", mounts)).toEqual(["nosuid", "nodev"]);
  expect(mountFlags("/tmp/in/a", mounts)).toEqual(["noexec"]);
  expect(mountFlags("/tmpfoo", mounts)).toEqual([]);
});

test("as root one overlay covers everything, and one more each real file system", () => {
  const mounts = [mount("/"), mount("/proc", "proc"), mount("/tmp/disk"), mount("/mnt/x", "tmpfs"), mount("/", "ext4")];
  const plan = planRoot(false, mounts);
  expect(plan).toEqual({ overlays: ["/"], binds: [], links: [], folders: [] });
  expect(planRoot(false, [mount("/"), mount("/usr"), mount("/etc/hosts")]).overlays).toEqual(["/", "/usr"]);
});

test("rootless each top folder is an overlay of its own, unless it holds mounts or cannot be read", () => {
  const top: Entry[] = [
    folder("usr"),
    folder("etc"),
    folder("home"),
    folder("root", false),
    folder("tmp"),
    { name: "bin", kind: "link", to: "usr/bin", readable: true },
    { name: "vmlinuz", kind: "other", readable: true },
  ];
  const plan = planRoot(true, [mount("/"), mount("/home/me"), mount("/usr")], () => top);
  expect(plan).toEqual({
    overlays: ["/usr", "/etc"],
    binds: ["/home"],
    links: [{ path: "/bin", to: "usr/bin" }],
    folders: ["/proc", "/sys", "/dev", "/run", "/tmp", "/usr", "/etc", "/home", "/root"],
  });
});

test("a path is hidden below a container's own folders and on file systems it is not given", () => {
  const mounts = [mount("/"), mount("/usr"), mount("/mnt/ram", "tmpfs"), mount("/home/me")];
  const plan = { overlays: ["/", "/usr"], binds: [], links: [], folders: [] };
  expect(["/tmp/x", "/run", "/mnt/ram/x", "/home/me/x"].map((path) => isHidden(path, plan, mounts))).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(["/srv", "/usr/bin", "/tmpx", "/mnt"].map((path) => isHidden(path, plan, mounts))).toEqual([
    false,
    false,
    false,
    false,
  ]);
  const bound = { overlays: ["/usr"], binds: ["/home"], links: [], folders: [] };
  expect(isHidden("/home/me/x", bound, mounts)).toBe(false);
  expect(isHidden("/root/x", bound, mounts)).toBe(true);
});

test("tables escape blanks, mount parents first and bring hidden shared folders along", () => {
  const plan = { overlays: ["/"], binds: [], links: [], folders: [] };
  expect(rootTable("/run/c", plan, false).split("\n")[0]).toBe(
    "overlay /run/c/root overlay lowerdir=/,upperdir=/run/c/upper0,workdir=/run/c/work0 0 0",
  );
  const setup = {
    folder: "/run/c",
    plan,
    mounts: [mount("/"), mount("/tmp", "tmpfs", ["nodev"])],
    sharedPaths: [import.meta.dir, "/tmp"],
    rootless: false,
    cgroups: [],
    pod: { podId: "p", hostname: "h", ip: "", hostNetwork: false, resolvConf: "", hosts: "" },
    container: {
      id: "c-0",
      argv: ["true"],
      env: {},
      workingDir: undefined,
      logPath: "",
      memoryLimitBytes: undefined,
      cpuLimitMillis: undefined,
      mounts: [
        { source: "/usr", target: "/a/b c", readOnly: false },
        { source: "/etc/passwd", target: "/a", readOnly: true },
      ],
    },
  };
  expect(volumeTable(setup)).toEqual({
    table:
      "overlay /tmp overlay lowerdir=/.old/tmp,upperdir=/.old/run/c/shared0,workdir=/.old/run/c/sharedwork0,X-mount.mkdir 0 0\n/.old/etc/passwd /a none rbind,ro 0 0\n/.old/usr /a/b\\040c none rbind,X-mount.mkdir 0 0\n",
    commands: ["[ -e '/a' ] || { mkdir -p '/'; : > '/a'; }"],
  });
});
