/* Preloaded into a server, this remembers what the server has synced: what a disk has after a loss of power.

   What was written and not synced counts as lost, as on a disk whose cache is empty after the cut. So fsync and fdatasync
   are the only functions it takes over. For files below the folder $POWER_LOSS_FOLDER they write into $POWER_LOSS_DISK:

       content/<inode>   a file, as it was when it was synced last
       names/<inode>     a folder, as it was when it was synced last: a line "<inode> <name>" for each of its files
       inodes/<inode>    a link to each file of these, so that no other file gets its number

   A name that was given, changed or removed is kept only when its folder was synced afterwards, which is stricter than
   ext4 is. That a folder itself exists is taken as kept. sync_file_range promises nothing, and is left as it is. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int on_disk(char *path, const char *kind, ino_t inode, const char *suffix) {
    const char *disk = getenv("POWER_LOSS_DISK");
    return snprintf(path, PATH_MAX, "%s/%s/%lu%s", disk, kind, (unsigned long)inode, suffix) < PATH_MAX ? 0 : -1;
}

/* Links the file into inodes/; the error ENOENT is that of a file that has no name any more. */
static int keep_inode(int folder, const char *name, ino_t inode, char *path) {
    return on_disk(path, "inodes", inode, "") ||
                   (linkat(folder, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW) && errno != EEXIST)
               ? -1
               : 0;
}

static int keep_content(const char *self, ino_t inode) {
    char path[PATH_MAX], buffer[1 << 16];
    ssize_t got;
    off_t size = 0;
    int from, to;
    if (keep_inode(AT_FDCWD, self, inode, path))
        return errno == ENOENT ? 0 : -1;
    if ((from = open(path, O_RDONLY | O_CLOEXEC)) < 0) /* by its link: the server may have it open for writing only */
        return -1;
    if (on_disk(path, "content", inode, "") || (to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) < 0)
        return -1;
    while ((got = read(from, buffer, sizeof buffer)) > 0) {
        if (write(to, buffer, (size_t)got) != got)
            return -1;
        size += got;
    }
    return got || ftruncate(to, size) || close(to) || close(from) ? -1 : 0;
}

static int keep_names(const char *self, ino_t inode) {
    char path[PATH_MAX], draft[PATH_MAX], link[PATH_MAX];
    struct dirent *entry;
    struct stat status;
    if (on_disk(path, "names", inode, "") || on_disk(draft, "names", inode, ".draft"))
        return -1;
    DIR *folder = opendir(self);
    FILE *list = fopen(draft, "we");
    if (!folder || !list)
        return -1;
    while ((entry = readdir(folder)))
        if (!fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) && S_ISREG(status.st_mode) &&
            !keep_inode(dirfd(folder), entry->d_name, status.st_ino, link))
            fprintf(list, "%lu %s\n", (unsigned long)status.st_ino, entry->d_name);
    return closedir(folder) || fclose(list) || rename(draft, path) ? -1 : 0;
}

/* Returns 0, -1 after an error, or 1 for a file elsewhere. */
static int keep(int file) {
    char self[64], path[PATH_MAX];
    const char *folder = getenv("POWER_LOSS_FOLDER");
    struct stat status;
    snprintf(self, sizeof self, "/proc/self/fd/%d", file);
    ssize_t length = readlink(self, path, sizeof path - 1);
    if (!folder || length < 0)
        return 1;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) || !strchr("/", path[strlen(folder)]) || fstat(file, &status))
        return 1;
    int lock = open(getenv("POWER_LOSS_DISK"), O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* threads and children sync, too */
    if (lock < 0 || flock(lock, LOCK_EX))
        return -1;
    int kept = S_ISDIR(status.st_mode) ? keep_names(self, status.st_ino) : keep_content(self, status.st_ino);
    int error = errno;
    flock(lock, LOCK_UN); /* explicitly: a child that was forked meanwhile has a copy of it */
    close(lock);
    errno = error;
    return kept;
}

int fsync(int file) {
    int kept = keep(file);
    return kept == 1 ? (int)syscall(SYS_fsync, file) : kept;
}

int fdatasync(int file) {
    int kept = keep(file);
    return kept == 1 ? (int)syscall(SYS_fdatasync, file) : kept;
}

static void die_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }

/* No child that rewrites a file goes on after its parent was killed: power is lost for both of them. */
__attribute__((constructor)) static void loaded(void) { pthread_atfork(NULL, NULL, die_with_parent); }
