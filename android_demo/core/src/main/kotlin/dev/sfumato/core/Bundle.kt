/**
 * An export as the app carries it: contract, int8 model, test vectors, the normal table of a gaussian channel, and the way from
 * scores to a word of an answer bundle.
 *
 * Everything is checked before anything is used. `sfumato export --android` puts the files where the app looks for them.
 *
 *     val bundle = Bundle.open { name -> assets.open("sfumato/$name").use { it.readBytes() } }
 */
package dev.sfumato.core

import java.io.IOException

/** A checked export: its [contract] and what belongs to it. */
public class Bundle internal constructor(
    public val contract: Contract,
    /** The int8 model, as the interpreter takes it. */
    public val model: ByteArray,
    /** Known answers, which a network that was loaded is asked for. */
    public val vectors: Vectors,
    internal val table: NormalTable?,
    /** In answer mode alone. */
    internal val code: AnswerCode? = null,
) {
    public companion object {
        /** Folder of the assets that `sfumato export --android` writes into. */
        public const val FOLDER: String = "sfumato"

        /**
         * Read and check all files; [read] throws [IOException] where one is missing.
         *
         * Where the app holds its maker's key, the contract must bear that maker's signature.
         */
        public fun open(read: (String) -> ByteArray): Bundle {
            fun content(name: String): ByteArray = try {
                read(name)
            } catch (error: IOException) {
                throw SfumatoException("$name is missing from the app: run `sfumato export EXPORT --android android_demo`")
            }
            fun optional(name: String): ByteArray? = try {
                read(name)
            } catch (error: IOException) {
                null
            }
            val signed = content(Contract.FILE)
            optional(MAKER_KEY)?.let { checkSignature(it, signed, content(CONTRACT_SIGNATURE)) }
            val contract = Contract.parse(signed)
            optional(CONTRACT_DIGESTS)?.let { checkDigest(it, contract.sha256) }
            fun listed(name: String): ByteArray = content(name).also(contract.file(name)::check)
            val table = if (contract.channel is Channel.Gaussian) NormalTable(listed(NormalTable.FILE)) else null
            val code = contract.answer?.let { AnswerCode.of(contract, it, ::listed) }
            return Bundle(contract, listed(contract.model.file), Vectors.parse(listed(Vectors.FILE)), table, code)
        }
    }
}

/** Compare the contract with its line of `contract.sha256`. */
private fun checkDigest(digests: ByteArray, sha256: String) {
    if (digests.toString(Charsets.US_ASCII).substringBefore('\n') != "$sha256  ${Contract.FILE}") {
        throw SfumatoException("${Contract.FILE} or $CONTRACT_DIGESTS was changed after the export: export again")
    }
}
