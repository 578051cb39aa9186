/* See folder.h. */
#include "base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

void
anx_folder_remove(const char *path)
{
    DIR *folder = opendir(path);

    for (struct dirent *entry = folder ? readdir(folder) : NULL; entry; entry = readdir(folder)) {
        char name[4096];
        struct stat info;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) >= (int) sizeof(name))
            continue;
        if (lstat(name, &info) == 0 && S_ISDIR(info.st_mode))
            anx_folder_remove(name);
        else
            (void) unlink(name);
    }
    if (folder)
        closedir(folder);
    if (rmdir(path) != 0 && errno != ENOENT)
        anx_log(ANX_LOG_WARN, "event=folder_not_removed path=%s cause=\"%s\"", path, strerror(errno));
}
