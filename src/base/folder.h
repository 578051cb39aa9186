/* Folders of ours and what is in them. */
#ifndef ANX_BASE_FOLDER_H
#define ANX_BASE_FOLDER_H

/* Removes a folder with everything below it; links are removed, not followed. What cannot be removed stays
 * and is said in the log; a folder that is not there is fine. Paths of 4,096 bytes and more stay. */
void anx_folder_remove(const char *path);

#endif
