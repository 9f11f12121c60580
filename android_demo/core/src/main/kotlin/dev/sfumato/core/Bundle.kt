/**
 * An export as the app carries it: contract, int8 model, test vectors, and for gaussian channels the normal table.
 *
 * Everything is checked before anything is used. `sfumato export --android` puts the files where the app looks for them.
 *
 *     val bundle = Bundle.open { name -> assets.open("sfumato/$name").use { it.readBytes() } }
 */
package dev.sfumato.core

import java.io.IOException

/** A checked export. */
class Bundle(val contract: Contract, val model: ByteArray, val vectors: Vectors, val table: NormalTable?) {
    companion object {
        const val FOLDER = "sfumato"

        /** Read and check all files; [read] throws [IOException] where one is missing. */
        fun open(read: (String) -> ByteArray): Bundle {
            fun content(name: String): ByteArray = try {
                read(name)
            } catch (error: IOException) {
                throw SfumatoException("$name is missing from the app: run `sfumato export EXPORT --android android_demo`")
            }
            val contract = Contract.parse(content(Contract.FILE))
            fun listed(name: String): ByteArray = content(name).also(contract.file(name)::check)
            val table = if (contract.channel is Channel.Gaussian) NormalTable(listed(NormalTable.FILE)) else null
            return Bundle(contract, listed(contract.model.file), Vectors.parse(listed(Vectors.FILE)), table)
        }
    }
}
